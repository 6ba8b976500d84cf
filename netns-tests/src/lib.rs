//! The laboratory: a client, a router, a balancer and backends in network namespaces of one machine, joined by veth
//! pairs, with the real `lb` and real sockets. End-to-end tests and `./dev demo` are written against it.
//!
//! * [`netns`]: a namespace as a guard, and how to run things inside it;
//! * [`topology`]: the namespaces, their links and routes ([`topology::Lab`]);
//! * [`host`]: a backend and the servers that run on it;
//! * [`settings`]: the balancer's TOML file, written from values;
//! * [`balancer`]: `lb run` as a guard: reload, kill, restart, ask;
//! * [`traffic`]: what the client does: requests, sessions, downloads, datagrams, pings;
//! * [`capture`]: frames on the balancer's link, each checksum verified, and a pcap if a test fails;
//! * [`hang`]: a thread of the daemon stopped from outside;
//! * [`running`]: servers on a thread of their own;
//! * [`scenario`]: the frame of a test: builds a lab, runs the test, checks what every test must leave behind;
//! * [`packet`]: named cases of one packet each, run by the program in the kernel and by the same code on the host;
//! * [`leftovers`]: removes what a killed run left.
//!
//! README.md of this folder has a picture and says how to add a test.

pub mod balancer;
pub mod bpf;
pub mod capture;
pub mod continuity;
pub mod hang;
pub mod host;
pub mod leftovers;
pub mod netns;
pub mod packet;
pub mod pcap;
pub mod running;
pub mod scenario;
pub mod settings;
pub mod share;
pub mod topology;
pub mod traffic;
pub mod wait;
