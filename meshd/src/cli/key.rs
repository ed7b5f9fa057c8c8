//! `meshd key generate` and `meshd key show`.

use std::path::Path;
use std::process::ExitCode;

use proto::id::SecretKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::{Result, print};

/// Makes a key and writes it to a new file, or to standard output.
pub(super) fn generate(out: Option<&Path>) -> Result {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| "the system gives no random bytes")?;
    let secret = SecretKey::from_bytes(*bytes);
    match out {
        Some(path) => {
            config::key::generate_file(path, &secret).map_err(|error| with_help(&error))?;
            print(&format!("wrote {}\npublic_key = \"{}\"\n", path.display(), secret.public_key()))?;
        }
        None => print(&Zeroizing::new(format!("{}\n", *secret.to_base64())))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the public half of a key file: of this one, or of the one that a configuration names.
pub(super) fn show(file: Option<&Path>, configuration: &Path) -> Result {
    let file = file.map_or_else(|| config::key_file(configuration), |file| Ok(file.to_owned()))?;
    print(&format!("{}\n", config::key::read_secret(&file).map_err(|error| with_help(&error))?.public_key()))?;
    Ok(ExitCode::SUCCESS)
}

fn with_help(error: &config::key::KeyFileError) -> String {
    error.help().map_or_else(|| error.to_string(), |help| format!("{error}; {help}"))
}
