//! Known answers, one library against the other, and what must not open.

use super::*;

/// Every suite with every library that can run it.
fn ways() -> impl Iterator<Item = (Suite, AesBackend)> {
    Suite::ALL.into_iter().flat_map(|suite| AesBackend::ALL.map(|backend| (suite, backend)))
}

fn key(suite: Suite, backend: AesBackend) -> AeadKey {
    let bytes = std::array::from_fn(|at| u8::try_from(at * 7).unwrap());
    AeadKey::with_backend(suite, &bytes, backend).unwrap()
}

/// A datagram with `len` bytes of text, not sealed yet.
fn datagram(len: usize) -> Vec<u8> {
    (0..HEADER_LEN + len + TAG_LEN).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A published vector: suite, key, nonce, additional data, text, ciphertext, tag.
struct Vector(Suite, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// The text of the vectors of GCM.
const GCM_TEXT: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";

#[rustfmt::skip]
const VECTORS: [Vector; 9] = [
    // "The Galois/Counter Mode of Operation" (McGrew, Viega), test cases 4 and 16, which NIST took over.
    Vector(Suite::Aes128Gcm, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2", GCM_TEXT,
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47"),
    Vector(Suite::Aes256Gcm, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2", GCM_TEXT,
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b"),
    // RFC 8439 §2.8.2.
    Vector(Suite::ChaCha20Poly1305, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
        "50515253c0c1c2c3c4c5c6c7",
        "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a204966204920636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73637265656e20776f756c642062652069742e",
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116",
        "1ae10b594f09e26a7e902ecbd0600691"),
    // RFC 10032, AEGIS-128L test vectors 1 to 4.
    Vector(Suite::Aegis128L, "10010000000000000000000000000000", "10000200000000000000000000000000", "",
        "00000000000000000000000000000000", "c1c0e58bd913006feba00f4b3cc3594e", "abe0ece80c24868a226a35d16bdae37a"),
    Vector(Suite::Aegis128L, "10010000000000000000000000000000", "10000200000000000000000000000000", "",
        "", "", "c2b879a67def9d74e6c14f708bbcc9b4"),
    Vector(Suite::Aegis128L, "10010000000000000000000000000000", "10000200000000000000000000000000", "0001020304050607",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "79d94593d8c2119d7e8fd9b8fc77845c5c077a05b2528b6ac54b563aed8efe84", "cc6f3372f6aa1bb82388d695c3962d9a"),
    Vector(Suite::Aegis128L, "10010000000000000000000000000000", "10000200000000000000000000000000", "0001020304050607",
        "000102030405060708090a0b0c0d", "79d94593d8c2119d7e8fd9b8fc77", "5c04b3dba849b2701effbe32c7f0fab7"),
    // The same, AEGIS-128X2 test vectors 1 and 2.
    Vector(Suite::Aegis128X2, "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f", "",
        "", "", "63117dc57756e402819a82e13eca8379"),
    Vector(Suite::Aegis128X2, "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f", "0102030401020304",
        "040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607040506070405060704050607",
        "5795544301997f93621b278809d6331b3bfa6f18e90db12c4aa35965b5e98c5fc6fb4e54bcb6111842c20637252eff747cb3a8f85b37de80919a589fe0f24872bc926360696739e05520647e390989e1eb5fd42f99678a0276a498f8c454761c9d6aacb647ad56be62b29c22cd4b5761b38f43d5a5ee062f",
        "1aebc200804f405cab637f2adebb6d77"),
];

#[test]
fn the_published_vectors_are_met_by_every_library() {
    for Vector(suite, key, nonce, aad, text, ciphertext, tag) in VECTORS {
        let mut whole = [0; 32];
        let key = bytes(key);
        whole[..key.len()].copy_from_slice(&key);
        let mut padded = [0; NONCE_LEN];
        let nonce = bytes(nonce);
        padded[NONCE_LEN - nonce.len()..].copy_from_slice(&nonce);
        for backend in AesBackend::ALL {
            let cipher = Cipher::new(suite, &whole, backend).unwrap();
            let mut sealed = bytes(text);
            let computed = cipher.seal(&padded, &bytes(aad), &mut sealed).unwrap();
            assert_eq!((&sealed, computed.to_vec()), (&bytes(ciphertext), bytes(tag)), "{suite:?} by {backend:?}");
            sealed.extend(computed);
            let len = cipher.open(&padded, &bytes(aad), &mut sealed).unwrap();
            assert_eq!(sealed[..len], bytes(text), "{suite:?} by {backend:?}");
        }
    }
}

#[test]
fn what_one_library_seals_the_other_opens_at_every_length() {
    for (suite, backend) in ways() {
        let other = if backend == AesBackend::Ring { AesBackend::AwsLc } else { AesBackend::Ring };
        let (seals, opens) = (key(suite, backend), key(suite, other));
        for len in 0..=1500 {
            let (mut bytes, counter) = (datagram(len), u64::MAX - len as u64);
            seals.seal(counter, &mut bytes).unwrap();
            assert_eq!(opens.open(counter, &mut bytes), Ok(len), "{suite:?} by {backend:?}");
            assert_eq!(bytes[..HEADER_LEN + len], datagram(len)[..HEADER_LEN + len], "{len} bytes");
        }
    }
}

#[test]
fn a_damaged_tag_text_or_header_does_not_open_in_any_suite() {
    for (suite, backend) in ways() {
        let key = key(suite, backend);
        let mut sealed = datagram(40);
        key.seal(5, &mut sealed).unwrap();
        for position in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[position] ^= 0x80;
            assert_eq!(key.open(5, &mut forged), Err(AeadError), "{suite:?} by {backend:?}, byte {position}");
        }
        let mut zeroed = sealed.clone();
        zeroed[HEADER_LEN + 40..].fill(0);
        assert_eq!(key.open(5, &mut zeroed), Err(AeadError), "{suite:?} without a tag");
        assert_eq!(key.open(6, &mut sealed.clone()), Err(AeadError), "{suite:?} under another counter");
        assert_eq!(key.open(5, &mut sealed), Ok(40), "{suite:?}");
    }
}

#[test]
fn a_refused_datagram_leaves_no_plaintext() {
    for (suite, backend) in ways() {
        let key = key(suite, backend);
        let mut bytes = datagram(64);
        key.seal(1, &mut bytes).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(key.open(1, &mut bytes), Err(AeadError));
        let plain = datagram(64);
        assert_ne!(bytes[HEADER_LEN..HEADER_LEN + 64], plain[HEADER_LEN..HEADER_LEN + 64], "{suite:?} by {backend:?}");
    }
}

#[test]
fn what_has_no_room_for_header_and_tag_is_refused() {
    for (suite, backend) in ways() {
        let key = key(suite, backend);
        for len in 0..HEADER_LEN + TAG_LEN {
            assert_eq!(key.seal(0, &mut vec![0; len]), Err(AeadError), "{suite:?}, {len} bytes");
            assert_eq!(key.open(0, &mut vec![0; len]), Err(AeadError), "{suite:?}, {len} bytes");
        }
    }
}

#[test]
fn short_keys_are_the_first_half_and_long_ones_the_whole() {
    let (mut one, mut two) = ([1; 32], [1; 32]);
    (one[31], two[31]) = (2, 3);
    for (suite, backend) in ways() {
        let mut bytes = datagram(20);
        AeadKey::with_backend(suite, &one, backend).unwrap().seal(0, &mut bytes).unwrap();
        let opened = AeadKey::with_backend(suite, &two, backend).unwrap().open(0, &mut bytes);
        let is_long = matches!(suite, Suite::Aes256Gcm | Suite::ChaCha20Poly1305);
        assert_eq!(opened.is_err(), is_long, "{suite:?}");
    }
}

#[test]
fn no_library_makes_keys_large() {
    assert!(size_of::<AeadKey>() <= 48, "{} bytes", size_of::<AeadKey>());
}

#[test]
fn the_default_suites_run_everywhere() {
    use crate::wire::Suites;
    assert_eq!(supported_suites().common(Suites::DEFAULT), Suites::DEFAULT);
    assert_eq!(AesBackend::detect(), AesBackend::detect());
}
