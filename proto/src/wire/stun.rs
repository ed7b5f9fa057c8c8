//! The two messages of STUN that a node needs (RFC 8489): the Binding request that it sends, and the answer that it gets.
//!
//! They share a UDP port with our own messages; how they are told apart is in `docs/wire.md`, section 2. Integers are
//! big-endian. No attribute that authenticates is read: who may answer is decided by the transaction id and the source.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::array;

/// Length of a Binding request without attributes, which is only a header (RFC 8489 §5), in bytes.
pub const BINDING_REQUEST_LEN: usize = HEADER_LEN;

const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: u32 = 0x2112_A442;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const ERROR: u16 = 0x0111;
const MAPPED_ADDRESS: u16 = 0x0001;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Names a request; its answer repeats it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TransactionId(pub [u8; 12]);

impl TransactionId {
    /// The id of a datagram that has the form of an answer to a Binding request: type, length, magic cookie. `None` for all
    /// else, every datagram of our own among it.
    #[must_use]
    pub fn of_answer(datagram: &[u8]) -> Option<Self> {
        let kind = u16::from_be_bytes(array(datagram, 0));
        let len = usize::from(u16::from_be_bytes(array(datagram, 2)));
        let is_answer = (kind == SUCCESS || kind == ERROR)
            && datagram.len() == HEADER_LEN + len
            && len.is_multiple_of(4)
            && u32::from_be_bytes(array(datagram, 4)) == MAGIC_COOKIE;
        is_answer.then(|| Self(array(datagram, 8)))
    }

    /// The Binding request of this id.
    #[must_use]
    pub fn request(self) -> [u8; BINDING_REQUEST_LEN] {
        let mut bytes = [0; BINDING_REQUEST_LEN];
        bytes[..2].copy_from_slice(&REQUEST.to_be_bytes());
        bytes[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        bytes[8..].copy_from_slice(&self.0);
        bytes
    }
}

/// What a server answered to a Binding request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingAnswer {
    /// Where the request came from, as the server sees it.
    Address(SocketAddr),
    /// It refused, with this code (RFC 8489 §14.8): 300 to 699.
    Refused(u16),
}

impl BindingAnswer {
    /// Reads an answer. `None` where it has not the form of one, or lacks what it is for.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let id = TransactionId::of_answer(datagram)?;
        if u16::from_be_bytes(array(datagram, 0)) == ERROR {
            return attribute(datagram, ERROR_CODE).and_then(error_code).map(Self::Refused);
        }
        // Servers of before RFC 5389 know only the plain form, which some NATs rewrite.
        let address = attribute(datagram, XOR_MAPPED_ADDRESS).and_then(|value| address(value, mask(id)));
        let address =
            address.or_else(|| attribute(datagram, MAPPED_ADDRESS).and_then(|value| self::address(value, [0; 16])));
        address.map(Self::Address)
    }
}

/// The value of the first attribute of a kind: those after it are ignored (RFC 8489 §14).
fn attribute(message: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADER_LEN..)?;
    while rest.len() >= 4 {
        let len = usize::from(u16::from_be_bytes(array(rest, 2)));
        if u16::from_be_bytes(array(rest, 0)) == kind {
            return rest.get(4..4 + len);
        }
        rest = rest.get(4 + len.next_multiple_of(4)..)?;
    }
    None
}

fn error_code(value: &[u8]) -> Option<u16> {
    let [_, _, class, number] = value.first_chunk().copied()?;
    let class = class & 7;
    ((3..=6).contains(&class) && number < 100).then(|| u16::from(class) * 100 + u16::from(number))
}

/// What an address is XORed with (RFC 8489 §14.2): the cookie, and for IPv6 the id after it.
fn mask(TransactionId(id): TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(&id);
    mask
}

fn address(value: &[u8], mask: [u8; 16]) -> Option<SocketAddr> {
    let family = *value.get(1)?;
    let port = u16::from_be_bytes(array(value, 2)) ^ u16::from_be_bytes(array(&mask, 0));
    let ip = match (family, value.len()) {
        (1, 8) => {
            let bits = u32::from_be_bytes(array(value, 4)) ^ u32::from_be_bytes(array(&mask, 0));
            IpAddr::V4(Ipv4Addr::from_bits(bits))
        }
        (2, 20) => {
            let bits = u128::from_be_bytes(array(value, 4)) ^ u128::from_be_bytes(mask);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        _ => return None,
    };
    (port != 0 && !ip.is_unspecified()).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 5769 §2.2.
    const IPV4_RESPONSE: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147\
        e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
    /// RFC 5769 §2.3.
    const IPV6_RESPONSE: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147\
        0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
    const ID: TransactionId = TransactionId([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn answer(kind: u16, attributes: &[u8]) -> Vec<u8> {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend((attributes.len() as u16).to_be_bytes());
        message.extend(MAGIC_COOKIE.to_be_bytes());
        message.extend(ID.0);
        message.extend(attributes);
        message
    }

    #[test]
    fn the_vectors_of_rfc_5769_give_their_addresses() {
        for (hex, expected) in
            [(IPV4_RESPONSE, "192.0.2.1:32853"), (IPV6_RESPONSE, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
        {
            let datagram = bytes(hex);
            assert_eq!(TransactionId::of_answer(&datagram), Some(ID));
            assert_eq!(BindingAnswer::parse(&datagram), Some(BindingAnswer::Address(expected.parse().unwrap())));
        }
    }

    #[test]
    fn a_request_is_a_header_and_no_answer() {
        let mut expected = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        expected.extend(ID.0);
        assert_eq!(ID.request()[..], expected);
        assert_eq!(TransactionId::of_answer(&ID.request()), None);
    }

    #[test]
    fn no_initiation_has_the_form_of_an_answer() {
        // The worst: an initiation whose sender index is the cookie, and reserved bytes that a later version uses.
        let mut datagram = vec![0; crate::wire::INITIATION_LEN];
        datagram[..8].copy_from_slice(&[1, 0, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        assert_eq!(TransactionId::of_answer(&datagram), None);
        datagram[1] = 1;
        assert_eq!(TransactionId::of_answer(&datagram), None);
    }

    #[test]
    fn a_refusal_has_its_code_and_a_plain_address_is_taken_where_there_is_no_other() {
        let refusal = answer(ERROR, &[0, 9, 0, 5, 0, 0, 4, 20, b'x', 0, 0, 0]);
        assert_eq!(BindingAnswer::parse(&refusal), Some(BindingAnswer::Refused(420)));
        let plain = answer(SUCCESS, &[0, 1, 0, 8, 0, 1, 0x1f, 0x90, 192, 0, 2, 7]);
        assert_eq!(BindingAnswer::parse(&plain), Some(BindingAnswer::Address("192.0.2.7:8080".parse().unwrap())));
        for useless in
            [answer(SUCCESS, &[]), answer(SUCCESS, &[0, 1, 0, 8, 0, 3, 1, 1, 9, 9, 9, 9]), answer(ERROR, &[])]
        {
            assert_eq!(BindingAnswer::parse(&useless), None);
        }
    }

    proptest! {
        #[test]
        fn a_cut_or_damaged_answer_is_none_or_an_answer_and_never_panics(
            is_v6 in any::<bool>(), cut in 0usize..100, at in 0usize..92, byte in any::<u8>(),
        ) {
            let mut datagram = bytes(if is_v6 { IPV6_RESPONSE } else { IPV4_RESPONSE });
            if let Some(old) = datagram.get_mut(at) {
                *old = byte;
            }
            let _ = BindingAnswer::parse(&datagram);
            if cut < datagram.len() {
                datagram.truncate(cut);
                prop_assert!(at == 2 || at == 3 || BindingAnswer::parse(&datagram).is_none());
            }
        }
    }
}
