//! The backend's program, in the kernel and on the host.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::Xdp,
};
use lb_common::{
    maps::{self, DecapVerdict},
    verdict::Action,
};
use lb_daemon::dataplane::kernel;
use lb_xdp::host::{Backend, HostFrame};

use super::{
    case::INGRESS,
    check::action_of,
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
    fn new(backend: &Backend) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        let mut object = loader.override_global(maps::DECAP_TUNING, &backend.tuning, true).load(kernel::object())?;
        let program: &mut Xdp = object.program_mut(maps::DECAP_PROGRAM).context("the program")?.try_into()?;
        program.load()?;
        let map = object.map_mut(maps::DECAP_ADDRESSES).context("the addresses")?;
        let mut addresses: HashMap<_, [u8; 16], u32> = map.try_into()?;
        for address in &backend.tunnel {
            addresses.insert(address, 1, 0)?;
        }
        let map = object.map_mut(maps::DECAP_SOURCES).context("the sources")?;
        let mut sources: LpmTrie<_, [u8; 20], u32> = map.try_into()?;
        for (key, value) in &backend.sources {
            let mut data = [0; 20];
            data[4..].copy_from_slice(&key.address);
            sources.insert(&Key::new(key.prefix_len, data), value, 0)?;
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

/// Lets each frame arrive at a host with these settings; panics after the last one if any case failed.
pub fn check(backend: &Backend, arrivals: &[Arrival]) {
    let loaded = is_root().then(|| Loaded::new(backend).expect("the program"));
    let failed = arrivals.iter().filter(|arrival| !holds(arrival, backend, loaded.as_ref()));
    let failed: Vec<&str> = failed.map(|arrival| arrival.name).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {failed:#?}", failed.len(), arrivals.len());
}

fn holds(arrival: &Arrival, backend: &Backend, loaded: Option<&Loaded>) -> bool {
    let mut frame = HostFrame::new(&arrival.frame, INGRESS);
    let verdict = backend.unwrap(&mut frame);
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
    let action = if arrival.verdict.passes() { Action::Pass } else { Action::Drop };
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
