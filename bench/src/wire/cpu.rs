//! What CPUs spend their time on, as `/proc/stat` tells.

use std::fs;

use anyhow::{Context, Result};

/// Time so far, or in between, in ticks of all CPUs in question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    /// All there was.
    all: u64,
    /// In programs and on behalf of them in the kernel.
    system: u64,
    /// Where packets are handled.
    softirq: u64,
    /// That another guest of the machine had instead.
    steal: u64,
    /// With nothing to do.
    idle: u64,
}

/// The same as shares, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// In the kernel, softirqs aside.
    pub system: f64,
    /// In softirqs: where packets are handled.
    pub softirq: f64,
    /// That another guest of the machine had instead.
    pub steal: f64,
    /// With nothing to do.
    pub idle: f64,
}

impl Spent {
    /// By these CPUs so far.
    pub(super) fn so_far(cpus: &[usize]) -> Result<Self> {
        parse(&fs::read_to_string("/proc/stat")?, cpus)
    }

    /// What part of the time since then went where.
    pub(super) fn since(self, then: Self) -> Shares {
        let all = self.all.saturating_sub(then.all).max(1);
        #[expect(clippy::cast_precision_loss, reason = "ticks of some seconds")]
        let share = |now: u64, then: u64| 100.0 * now.saturating_sub(then) as f64 / all as f64;
        Shares {
            system: share(self.system, then.system),
            softirq: share(self.softirq, then.softirq),
            steal: share(self.steal, then.steal),
            idle: share(self.idle, then.idle),
        }
    }
}

/// `cpuN user nice system idle iowait irq softirq steal …`.
fn parse(text: &str, cpus: &[usize]) -> Result<Spent> {
    let mut sum = Spent::default();
    for cpu in cpus {
        let name = format!("cpu{cpu}");
        let mut lines = text.lines().map(str::split_whitespace);
        let words = lines.find_map(|mut words| (words.next() == Some(&name)).then_some(words));
        let ticks = words.with_context(|| format!("/proc/stat has no {name}"))?.map(str::parse);
        let ticks: Vec<u64> = ticks.collect::<Result<_, _>>().with_context(|| format!("{name} in /proc/stat"))?;
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks.as_slice() else {
            anyhow::bail!("/proc/stat tells too little of {name}");
        };
        sum.all += user + nice + system + idle + iowait + irq + softirq + steal;
        sum.system += system + irq;
        sum.softirq += softirq;
        sum.steal += steal;
        sum.idle += idle + iowait;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 20 100 5 1 30 4 0 0\ncpu1 0 0 0 50 0 0 0 0 0 0\nintr 1\n";
    const AFTER: &str =
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 0 30 110 5 1 90 24 0 0\ncpu1 0 0 0 150 0 0 0 0 0 0\nintr 1\n";

    #[test]
    fn tells_what_part_went_where() {
        let shares = |cpus: &[usize]| parse(AFTER, cpus).unwrap().since(parse(BEFORE, cpus).unwrap());
        assert_eq!(shares(&[0]), Shares { system: 10.0, softirq: 60.0, steal: 20.0, idle: 10.0 });
        assert_eq!(shares(&[0, 1]), Shares { system: 5.0, softirq: 30.0, steal: 10.0, idle: 55.0 });
    }

    #[test]
    fn complains_of_a_cpu_that_is_not_there() {
        assert!(parse(BEFORE, &[7]).unwrap_err().to_string().contains("cpu7"));
        assert!(parse("cpu0 1 2 3\n", &[0]).is_err());
        assert!(parse("cpu0 1 2 3 x 5 6 7 8\n", &[0]).is_err());
    }

    #[test]
    fn no_time_at_all_is_no_share_of_anything() {
        assert_eq!(Spent::default().since(Spent::default()), Shares::default());
    }
}
