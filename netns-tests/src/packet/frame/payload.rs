//! What datagrams and segments carry that tells a server: QUIC packets, TCP options, stable-routing headers.

/// A packet with QUIC's short header (RFC 9000 section 17.3.1): the connection ID, then what is protected.
pub fn quic_short(connection_id: &[u8]) -> Vec<u8> {
    [&[0x40][..], connection_id, &[0xa5; 24]].concat()
}

/// Types of QUIC's long header, by their bits in version 1 (RFC 9000 section 17.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Long {
    /// The client's first flight.
    Initial = 0,
    /// Data before the handshake.
    ZeroRtt = 1,
    /// The handshake.
    Handshake = 2,
    /// The server asks for an address's proof.
    Retry = 3,
}

/// QUIC version 1 (RFC 9000).
pub const QUIC_V1: u32 = 1;
/// QUIC version 2 (RFC 9369), which numbers its long headers' types in another way.
pub const QUIC_V2: u32 = 0x6b33_43cf;

/// A packet with QUIC's long header, to this connection ID.
pub fn quic_long(version: u32, kind: Long, connection_id: &[u8]) -> Vec<u8> {
    // RFC 9369 section 3.2: each type's number is one higher, modulo 4.
    let number = if version == QUIC_V2 { (kind as u8 + 1) & 3 } else { kind as u8 };
    let length = u8::try_from(connection_id.len()).expect("a connection ID");
    [&[0xc0 | number << 4][..], &version.to_be_bytes(), &[length], connection_id, &[4, 1, 2, 3, 4], &[0x5a; 24]]
        .concat()
}

/// Katran's connection IDs: the version in the top two bits, then the server ID, then whatever the server likes.
pub fn katran_id(version: u8, server: u32) -> [u8; 8] {
    let [a, b, c, d] = server.to_be_bytes();
    match version {
        // 16 bits that begin behind the version's two.
        1 => [0x40 | c >> 2, c << 6 | d >> 2, d << 6 | 0x2a, 0xee, 0xee, 0xee, 0xee, 0xee],
        2 => [0x80 | 0x2a, b, c, d, 0xee, 0xee, 0xee, 0xee],
        3 => [0xc0 | 0x2a, a, b, c, d, 0xee, 0xee, 0xee],
        other => [other << 6, a, b, c, d, 0xee, 0xee, 0xee],
    }
}

/// A connection ID of draft-ietf-quic-load-balancers in plaintext: configuration and length in the first byte, then the
/// server ID, then a nonce.
pub fn quic_lb_id(configuration: u8, server: &[u8]) -> Vec<u8> {
    let nonce = [0x91, 0x82, 0x73, 0x64];
    let length = u8::try_from(server.len() + nonce.len()).expect("a connection ID");
    [&[configuration << 5 | length][..], server, &nonce].concat()
}

/// The TCP option that carries a server's ID: kind 0xB7, length 6, the ID in little-endian order; filled up with no-ops.
pub fn server_option(server: u32) -> Vec<u8> {
    [&[0xb7, 6][..], &server.to_le_bytes(), &[1, 1]].concat()
}

/// A payload that begins with a stable-routing header: 0x52, the server's ID in 24 bits, 4 bytes more.
pub fn stable_header(server: u32) -> Vec<u8> {
    let [_, b, c, d] = server.to_be_bytes();
    [&[0x52, b, c, d, 0, 0, 0, 0][..], b"what the client says"].concat()
}
