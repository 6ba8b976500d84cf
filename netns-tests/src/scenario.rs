//! The frame of an end-to-end test: builds a lab, runs the test, and demands what every test must leave behind.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
};

use anyhow::Result;

use crate::{
    balancer,
    capture::Capture,
    topology::{Lab, Layout, ROUTER_TO_LB},
};

/// Lines of the daemon's log that a failure prints.
const LOG_LINES: usize = 200;

/// Runs `test` in a fresh lab whose backends unwrap tunnelled packets. The balancer does not run yet.
///
/// Besides what the test demands itself, no packet on the balancer's link may have a wrong checksum, and no daemon may
/// have warned of anything that the test did not expect. On failure the daemons' log is printed and the last packets
/// are written to a pcap. Without root the test is skipped, and says so.
pub fn scenario(layout: &Layout, test: impl FnOnce(&mut Lab) -> Result<()>) {
    if !is_root() {
        return;
    }
    let mut lab = Lab::build(layout).expect("the lab");
    attach_decap(&lab).expect("lb decap on the backends");
    let capture = Capture::start(&lab.router, ROUTER_TO_LB).expect("the capture");
    let outcome = catch_unwind(AssertUnwindSafe(|| test(&mut lab)));
    let faults = faults(&lab, &capture);
    if matches!(outcome, Ok(Ok(()))) && faults.is_empty() {
        return;
    }
    report(&lab, &capture);
    match outcome {
        Err(panic) => resume_unwind(panic),
        Ok(Err(error)) => panic!("{error:#}"),
        Ok(Ok(())) => panic!("{}", faults.join("\n")),
    }
}

/// Whether this process may build labs; says so on stderr if not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: network namespaces and XDP need root");
    }
    root
}

fn attach_decap(lab: &Lab) -> Result<()> {
    let lb = balancer::binary()?;
    lab.backends.iter().try_for_each(|backend| backend.attach_decap(&lb))
}

fn faults(lab: &Lab, capture: &Capture) -> Vec<String> {
    let warned = lab.log().unexpected().into_iter().map(|line| format!("the daemon warned: {line}"));
    capture.faults().into_iter().chain(warned).collect()
}

fn report(lab: &Lab, capture: &Capture) {
    let lines = lab.log().lines();
    eprintln!("--- last lines of the daemons of {} ---", lab.name());
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        eprintln!("{line}");
    }
    for fault in capture.faults() {
        eprintln!("{fault}");
    }
    let file = pcap_file();
    match capture.write_pcap(&file) {
        Ok(()) => eprintln!("--- packets of the balancer's link: {} ---", file.display()),
        Err(error) => eprintln!("no pcap: {error:#}"),
    }
}

/// Beside the test's binary, under the test's name.
fn pcap_file() -> PathBuf {
    let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
    let binary = std::env::current_exe().unwrap_or_default();
    let folder = binary.parent().map(PathBuf::from).unwrap_or_default();
    let binary = binary.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    folder.join(format!("{binary}-{test}.pcap"))
}
