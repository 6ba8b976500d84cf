//! Fuzzing of the packet's way.
//!
//! A fuzzer's input is read as tables and a sequence of [`input::Step`]s: frames, time that passes, targets that change.
//! Every input means something, and one changed byte changes one thing, so that the fuzzer gets deep. Both targets read it
//! the same way and share one corpus:
//!
//! * `path` sends the frames through the code on the host and demands what must hold of any of them ([`sense`]);
//! * `differential` sends them through the program in the kernel too ([`kernel`]): what becomes of a frame, all
//!   tables and all counters must be the same.
//!
//! | from bytes to | module |
//! |---|---|
//! | tables | [`scene`], whose VIPs and addresses are in [`site`] |
//! | frames | [`packet`], in layers: [`packet::content`], [`packet::ip`], [`packet::link`] |
//! | what an input means in words | [`input::explain`] |

pub mod input;
pub mod kernel;
pub mod packet;
pub mod scene;
pub mod sense;
pub mod site;
