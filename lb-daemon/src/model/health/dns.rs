//! Checks of name servers.

use std::fmt;

/// What a DNS check asks, and what it takes for an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dns {
    /// The name asked for, which a message can carry.
    pub query: String,
    /// What of it.
    pub query_type: RecordType,
    /// What the server has to say of the question.
    pub expect_rcode: Rcode,
    /// Address or text that one of the answers must have.
    pub expect_answer: Option<String>,
    /// How it is asked.
    pub transport: Transport,
}

/// An enumeration with the words that the file has for it.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($(#[$one:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$one])* $variant,)+
        }

        impl $name {
            /// All of them, by name.
            pub const ALL: &[(&str, Self)] = &[$(($word, Self::$variant)),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

words! {
    /// What a name server is asked for.
    RecordType:
    /// IPv4 address.
    A = "A",
    /// IPv6 address.
    Aaaa = "AAAA",
    /// Who may issue certificates.
    Caa = "CAA",
    /// Another name.
    Cname = "CNAME",
    /// Who takes its mail.
    Mx = "MX",
    /// Name servers of a zone.
    Ns = "NS",
    /// Name of an address.
    Ptr = "PTR",
    /// Beginning of a zone.
    Soa = "SOA",
    /// Where a service is.
    Srv = "SRV",
    /// Text.
    Txt = "TXT",
}

words! {
    /// What a name server says of a question (RFC 1035 section 4.1.1).
    Rcode:
    /// It is answered.
    NoError = "NOERROR",
    /// It was not understood.
    FormErr = "FORMERR",
    /// Something is wrong with the server.
    ServFail = "SERVFAIL",
    /// There is no such name.
    NxDomain = "NXDOMAIN",
    /// The server cannot answer such.
    NotImp = "NOTIMP",
    /// The server does not want to.
    Refused = "REFUSED",
}

words! {
    /// How a name server is asked.
    Transport:
    /// By one datagram.
    Udp = "udp",
    /// Over a connection.
    Tcp = "tcp",
}
