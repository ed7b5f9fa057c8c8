//! What this CPU is good at: which library seals by AES-GCM on it, and which suites it should offer at all.

use crate::wire::{Suite, Suites};

/// The library that seals and opens by AES-GCM. Both compute the same; which one is faster depends on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AesBackend {
    /// ring.
    Ring,
    /// AWS-LC.
    AwsLc,
}

impl AesBackend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ring, Self::AwsLc];

    /// The faster one on this CPU: the same answer each time.
    ///
    /// AWS-LC is ahead where its AVX-512 code runs, and falls back to one block per instruction on other x86 CPUs, where ring
    /// still works on two with VAES and AVX2.
    #[must_use]
    pub fn detect() -> Self {
        if cfg!(target_arch = "aarch64") || has_wide_aes() { Self::AwsLc } else { Self::Ring }
    }

    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::AwsLc => "aws-lc",
        }
    }
}

/// Whether AWS-LC takes its AVX-512 code here: what its own `crypto_gcm_avx512_enabled` asks for.
fn has_wide_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("vaes")
            && std::arch::is_x86_feature_detected!("vpclmulqdq")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether this CPU has instructions for AES and carry-less multiplication, without which AES-GCM loses to ChaCha20.
#[must_use]
pub fn has_fast_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// Whether libaegis finds here the instructions that it has code for; it falls back to AES in software otherwise.
fn has_fast_aegis() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("avx")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

/// The suites that may be offered on this CPU. AEGIS is none of them where its AES would run in software: its speed, the
/// reason to opt in to it, would be gone.
#[must_use]
pub fn supported_suites() -> Suites {
    let aegis = Suites::of(&[Suite::Aegis128L, Suite::Aegis128X2]);
    let all = Suites::of(&Suite::ALL);
    if has_fast_aegis() { all } else { all.without(aegis) }
}
