//! The backend's program, in the kernel and on the host.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, PerCpuArray},
    programs::Xdp,
};
use lb_common::{
    maps::{self, DecapVerdict},
    verdict::Action,
};
use lb_daemon::dataplane::kernel;
use lb_xdp::{decap::unwrap, host::HostFrame};

use super::{
    case::INGRESS,
    check::action_of,
    given::octets,
    kernel::{MAX_FRAME, MIN_FRAME, run},
    report,
};
use crate::scenario::is_root;

/// A frame that comes to a backend, and what must become of it.
#[derive(Clone, Debug)]
pub struct Arrival {
    name: &'static str,
    frame: Vec<u8>,
    verdict: DecapVerdict,
    out: Vec<u8>,
}

impl Arrival {
    /// A frame that becomes another one.
    pub fn unwrapped(name: &'static str, frame: Vec<u8>, verdict: DecapVerdict, out: Vec<u8>) -> Self {
        Self { name, frame, verdict, out }
    }

    /// A frame that is passed or dropped as it is.
    pub fn left_alone(name: &'static str, frame: Vec<u8>, verdict: DecapVerdict) -> Self {
        Self { name, out: frame.clone(), frame, verdict }
    }

    /// The verdict that is expected.
    pub fn verdict(&self) -> DecapVerdict {
        self.verdict
    }
}

/// The program with tables of its own, bound to no interface.
struct Loaded {
    object: Ebpf,
}

impl Loaded {
    fn new(tunnel: &[IpAddr]) -> Result<Self> {
        let mut object = EbpfLoader::new().load(kernel::object())?;
        let program: &mut Xdp = object.program_mut(maps::DECAP_PROGRAM).context("the program")?.try_into()?;
        program.load()?;
        let map = object.map_mut(maps::DECAP_ADDRESSES).context("the addresses")?;
        let mut addresses: HashMap<_, [u8; 16], u32> = map.try_into()?;
        for address in tunnel {
            addresses.insert(octets(*address).0, 1, 0)?;
        }
        Ok(Self { object })
    }

    fn program(&self) -> Result<&Xdp> {
        Ok(self.object.program(maps::DECAP_PROGRAM).context("the program")?.try_into()?)
    }

    fn counters(&self) -> Result<BTreeMap<DecapVerdict, u64>> {
        let map = self.object.map(maps::DECAP_COUNTERS).context("the counters")?;
        let array: PerCpuArray<_, u64> = map.try_into()?;
        let sum = |verdict: DecapVerdict| Ok((verdict, array.get(&(verdict as u32), 0)?.iter().sum()));
        DecapVerdict::ALL.into_iter().map(sum).collect()
    }
}

/// Lets each frame arrive at a host with these tunnel addresses; panics after the last one if any case failed.
pub fn check(tunnel: &[IpAddr], arrivals: &[Arrival]) {
    let loaded = is_root().then(|| Loaded::new(tunnel).expect("the program"));
    let host: BTreeMap<[u8; 16], u32> = tunnel.iter().map(|address| (octets(*address).0, 1)).collect();
    let failed: Vec<&str> =
        arrivals.iter().filter(|arrival| !holds(arrival, &host, loaded.as_ref())).map(|arrival| arrival.name).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), arrivals.len());
}

fn holds(arrival: &Arrival, host: &BTreeMap<[u8; 16], u32>, loaded: Option<&Loaded>) -> bool {
    let mut frame = HostFrame::new(&arrival.frame, INGRESS);
    let verdict = unwrap(&mut frame, host);
    let mut faults = Vec::new();
    if verdict != arrival.verdict {
        faults.push(format!("host: {verdict:?}, not {:?}", arrival.verdict));
    }
    let mut sides = vec![("host", frame.bytes().to_vec())];
    let runs = (MIN_FRAME..=MAX_FRAME).contains(&arrival.frame.len());
    if let Some(loaded) = loaded.filter(|_| runs) {
        let kernel = in_kernel(arrival, loaded, &mut faults);
        sides.push(("kernel", kernel.unwrap_or_else(|error| panic!("{}: {error:#}", arrival.name))));
    }
    let different = sides.iter().filter(|(_, frame)| *frame != arrival.out);
    faults.extend(different.map(|(side, _)| format!("{side}: another frame")));
    if faults.is_empty() {
        return true;
    }
    let frames: Vec<(&str, &[u8])> = sides.iter().map(|(side, frame)| (*side, frame.as_slice())).collect();
    report::print(arrival.name, &faults, &arrival.frame, &arrival.out, &frames);
    false
}

fn in_kernel(arrival: &Arrival, loaded: &Loaded, faults: &mut Vec<String>) -> Result<Vec<u8>> {
    let before = loaded.counters()?;
    let ran = run(loaded.program()?, &arrival.frame, 256)?;
    let action = match arrival.verdict {
        DecapVerdict::Malformed | DecapVerdict::CongestionLost => Action::Drop,
        _ => Action::Pass,
    };
    if action_of(ran.action) != action {
        faults.push(format!("kernel: {}, not {}", action_of(ran.action).name(), action.name()));
    }
    let mut expected = before;
    *expected.entry(arrival.verdict).or_default() += 1;
    let counters = loaded.counters()?;
    if counters != expected {
        faults.push(format!("kernel: counters {counters:?}, not {expected:?}"));
    }
    Ok(ran.frame)
}
