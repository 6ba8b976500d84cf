//! `health.json`: what was known of health checks.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Folder, StateError, milliseconds, time};
use crate::{
    health::{CheckId, HealthView, Kept, Member, Status, Word, agent::Said},
    model::{Check, Protocol, Service},
};

const NAME: &str = "health.json";
/// Its kind, as latches name it.
const KIND: &str = "health";
/// Most checks that are kept, some 200 bytes each; of what is beyond, nothing is known after a restart.
const MOST: usize = 200_000;
/// Most characters of a result.
const LONGEST: usize = 120;
/// No file that was written is larger.
const LARGEST: u64 = 256 << 20;

/// What was kept; nothing if nothing ever was.
///
/// # Errors
/// When it cannot be read, or is not what was written.
pub fn read(folder: &Folder) -> Result<BTreeMap<CheckId, Kept>, StateError> {
    let content: Content = folder.read_up_to(NAME, LARGEST)?.unwrap_or_default();
    Ok(content.checks.into_iter().map(KeptCheck::into_kept).collect())
}

/// Keeps what results tell of checks, in place of what was kept; if there is none, that stays.
///
/// # Errors
/// When it cannot be written; what was kept before is then still there.
pub fn write(folder: &Folder, view: &HealthView) -> Result<(), StateError> {
    let checks: Vec<KeptCheck> = kept(view).take(MOST).collect();
    if checks.is_empty() { Ok(()) } else { folder.write(NAME, &Content { checks }, KIND) }
}

/// The content of the file.
#[derive(Default, Serialize, Deserialize)]
struct Content {
    checks: Vec<KeptCheck>,
}

/// Times are in milliseconds since 1970.
#[derive(Serialize, Deserialize)]
struct KeptCheck {
    vip: IpNet,
    port: u16,
    protocol: KeptProtocol,
    backend: IpAddr,
    check: Arc<str>,
    up: bool,
    last: String,
    since: u64,
    heard: u64,
    /// What it said, of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptProtocol {
    Tcp,
    Udp,
}

/// Checks and agents that were heard of.
fn kept(view: &HealthView) -> impl Iterator<Item = KeptCheck> {
    let all = view.iter().flat_map(|(member, standing)| {
        let checks = standing.checks.iter().map(|(name, status)| (&**name, status, None));
        let agent = standing.agent.iter().map(|agent| (Check::AGENT, &agent.status, Some(agent.word.line())));
        checks.chain(agent).map(move |check| (member, check))
    });
    all.filter_map(|(Member { service, backend }, (check, status, said)): (_, (_, &Status, _))| {
        let protocol = match service.protocol {
            Protocol::Tcp => KeptProtocol::Tcp,
            Protocol::Udp => KeptProtocol::Udp,
        };
        let heard = status.heard?;
        Some(KeptCheck {
            vip: service.prefix(),
            port: service.port,
            protocol,
            backend: *backend,
            check: check.into(),
            up: status.up,
            last: status.last.chars().take(LONGEST).collect(),
            since: milliseconds(status.since.unwrap_or(heard)),
            heard: milliseconds(heard),
            said,
        })
    })
}

impl KeptCheck {
    fn into_kept(self) -> (CheckId, Kept) {
        let Self { vip, port, protocol, backend, check, up, last, since, heard, said } = self;
        let word = said.map(|line| {
            let mut word = Word::default();
            word.take(&Said::read(line.as_bytes()).unwrap_or_default());
            word
        });
        let protocol = match protocol {
            KeptProtocol::Tcp => Protocol::Tcp,
            KeptProtocol::Udp => Protocol::Udp,
        };
        let member = Member { service: Service::of_prefix(vip, port, protocol), backend };
        (CheckId { member, check }, Kept { up, last, since: time(since), heard: time(heard), word })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::health::{Heard, Standing, Status};

    fn status(up: bool, heard: Option<u64>) -> Status {
        let last = "x".repeat(1000);
        Status { up, last, since: Some(time(7)), heard: heard.map(time), ..Status::default() }
    }

    fn view() -> HealthView {
        let standing = |checks: &[(&str, Status)]| Standing {
            checks: checks.iter().map(|(name, status)| ((*name).into(), status.clone())).collect(),
            ..Standing::default()
        };
        let member = |vip: &str, protocol, backend: &str| Member {
            service: Service::of_prefix(vip.parse().unwrap(), 443, protocol),
            backend: backend.parse().unwrap(),
        };
        let both = standing(&[("tcp", status(true, Some(9))), ("http", status(false, Some(1_700_000_000_123)))]);
        HealthView::from([
            (member("192.0.2.1/32", Protocol::Tcp, "10.0.0.1"), both),
            (member("2001:db8::/64", Protocol::Udp, "2001:db8:1::1"), standing(&[("new", status(true, None))])),
            (member("2001:db8::/64", Protocol::Udp, "2001:db8:1::2"), standing(&[("old", status(true, Some(0)))])),
        ])
    }

    #[test]
    fn what_agents_said_is_read_back() {
        let top = tempfile::tempdir().unwrap();
        let folder = folder(top.path());
        let mut word = Word::default();
        word.take(&Said::read(b"drain 25% down #disk, full").unwrap());
        let mut view = view();
        let agent = Heard { status: status(true, Some(3)), word: word.clone() };
        view.values_mut().next().unwrap().agent = Some(agent);
        write(&folder, &view).unwrap();
        let id = CheckId { member: *view.keys().next().unwrap(), check: Check::AGENT.into() };
        assert_eq!(read(&folder).unwrap()[&id].word, Some(word));
    }

    fn folder(top: &Path) -> Folder {
        Folder::of(top, Path::new("/sys/fs/bpf/lb"))
    }

    #[test]
    fn what_results_told_is_read_back_and_what_nobody_heard_is_not_kept() {
        let top = tempfile::tempdir().unwrap();
        let folder = folder(top.path());
        assert_eq!(read(&folder).unwrap(), BTreeMap::new());
        write(&folder, &view()).unwrap();
        let found = read(&folder).unwrap();
        let expected: Vec<(Member, &str, bool, u64)> = {
            let members: Vec<Member> = view().keys().copied().collect();
            let first = [(members[0], "http", false, 1_700_000_000_123), (members[0], "tcp", true, 9)];
            first.into_iter().chain([(members[2], "old", true, 0)]).collect()
        };
        let told = |(id, kept): (&CheckId, &Kept)| {
            assert_eq!((kept.last.len(), kept.since), (LONGEST, time(7)));
            (id.member, id.check.to_string(), kept.up, milliseconds(kept.heard))
        };
        let expected: Vec<_> = expected.into_iter().map(|(a, name, up, at)| (a, name.to_owned(), up, at)).collect();
        assert_eq!(found.iter().map(told).collect::<Vec<_>>(), expected);
        write(&folder, &HealthView::new()).unwrap();
        assert_eq!(read(&folder).unwrap(), found, "nothing is known: what was kept stays");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let top = tempfile::tempdir().unwrap();
        let folder = folder(top.path());
        write(&folder, &view()).unwrap();
        let file = folder.path().join(NAME);
        let text = fs::read_to_string(&file).unwrap();
        for damaged in [&text[..text.len() / 2], "", &text.replace("10.0.0.1", "10.0.0.2")] {
            fs::write(&file, damaged).unwrap();
            let error = read(&folder).unwrap_err().to_string();
            assert!(error.contains(file.to_str().unwrap()) && error.contains("damaged"), "{error}");
        }
    }
}
