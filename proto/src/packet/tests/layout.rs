//! Layout: what is found, and which field is blamed.

use super::{DESTINATION_V4, DESTINATION_V6, Inner, SOURCE_V4, SOURCE_V6, a_tcp_packet, a_udp_packet};
use crate::packet::MAX_PACKET;
use crate::packet::layout::{self, Layout, Malformed, Transport, Version};

#[test]
fn layout_finds_the_headers() {
    let tcp = Inner { ip_options: 8, ..a_tcp_packet(5, 5) }.bytes();
    let expected = Layout { version: Version::V4, transport: Transport::Tcp, l4_offset: 28, header_len: 60 };
    assert_eq!(Layout::parse(&tcp), Ok(expected));
    let udp = Inner { version: Version::V6, ..a_udp_packet(5, 5) }.bytes();
    let expected = Layout { version: Version::V6, transport: Transport::Udp, l4_offset: 40, header_len: 48 };
    assert_eq!(Layout::parse(&udp), Ok(expected));
}

#[test]
fn layout_says_which_field_is_wrong() {
    let patched = |at: usize, value: u8| {
        let mut packet = a_tcp_packet(5, 5).bytes();
        packet[at] = value;
        Layout::parse(&packet)
    };
    assert_eq!(patched(0, 0x55), Err(Malformed::BadVersion { version: 5 }));
    assert_eq!(patched(0, 0x44), Err(Malformed::BadHeaderLength { len: 16 }));
    let mut other = a_udp_packet(5, 5).bytes();
    (other[0], other[9]) = (0x4f, 1);
    assert_eq!(Layout::parse(&other), Err(Malformed::BadHeaderLength { len: 60 }));
    assert_eq!(patched(3, 58), Err(Malformed::LengthMismatch { stated: 58, actual: 57 }));
    assert_eq!(patched(32, 0x40), Err(Malformed::BadDataOffset { len: 16 }));
    assert_eq!(patched(32, 0xf0), Err(Malformed::BadDataOffset { len: 60 }));
    assert_eq!(Layout::parse(&[]), Err(Malformed::TooShort { len: 0 }));
    assert_eq!(Layout::parse(&[0x45; 19]), Err(Malformed::TooShort { len: 19 }));
    assert_eq!(Layout::parse(&[0x60; 39]), Err(Malformed::TooShort { len: 39 }));
    assert_eq!(Layout::parse(&[0x60; MAX_PACKET + 1]), Err(Malformed::TooLong { len: MAX_PACKET + 1 }));
}

#[test]
fn fragments_extension_headers_and_surplus_areas_are_opaque() {
    for (at, value) in [(6, 0x20), (7, 1), (6, 0x1f), (9, 47)] {
        let mut packet = a_tcp_packet(5, 5).bytes();
        packet[at] = value;
        assert_eq!(Layout::parse(&packet).unwrap().transport, Transport::Other);
    }
    let mut extended = Inner { version: Version::V6, ..a_udp_packet(5, 5) }.bytes();
    extended[6] = 0;
    let layout = Layout::parse(&extended).unwrap();
    assert_eq!((layout.transport, layout.header_len), (Transport::Other, 40));

    let mut surplus = a_udp_packet(5, 5).bytes();
    surplus[25] = 10;
    assert_eq!(Layout::parse(&surplus).unwrap().transport, Transport::Other);
    surplus[25] = 14;
    assert_eq!(Layout::parse(&surplus), Err(Malformed::LengthMismatch { stated: 14, actual: 13 }));
}

#[test]
fn addresses_and_traffic_class_are_read_without_a_parse() {
    let v4 = a_tcp_packet(5, 5).bytes();
    assert_eq!(layout::addresses(&v4), Some((SOURCE_V4.into(), DESTINATION_V4.into())));
    assert_eq!(layout::addresses(&v4[..19]), None);
    let v6 = Inner { version: Version::V6, ..a_udp_packet(5, 5) }.bytes();
    assert_eq!(layout::addresses(&v6), Some((SOURCE_V6.into(), DESTINATION_V6.into())));
    assert_eq!(layout::addresses(&v6[..39]), None);
}
