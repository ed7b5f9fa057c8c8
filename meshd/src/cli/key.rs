//! `meshd key generate` and `meshd key show`.

use std::path::Path;
use std::process::ExitCode;

use proto::id::SecretKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::Result;

/// Makes a key and writes it to a new file, or to standard output.
pub(super) fn generate(out: Option<&Path>) -> Result {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| "the system gives no random bytes")?;
    let secret = SecretKey::from_bytes(*bytes);
    match out {
        Some(path) => {
            config::key::generate_file(path, &secret).map_err(|error| with_help(&error))?;
            println!("wrote {}", path.display());
            println!("public_key = \"{}\"", secret.public_key());
        }
        None => println!("{}", *secret.to_base64()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the public half of a key file.
pub(super) fn show(file: &Path) -> Result {
    println!("{}", config::key::read_secret(file).map_err(|error| with_help(&error))?.public_key());
    Ok(ExitCode::SUCCESS)
}

fn with_help(error: &config::key::KeyFileError) -> String {
    error.help().map_or_else(|| error.to_string(), |help| format!("{error}; {help}"))
}
