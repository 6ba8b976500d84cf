//! System calls that the daemon makes, and no others: seccomp.
//!
//! Any other call fails with `ENOSYS`, not `EPERM`: the C library and others try new calls first and fall back to older ones
//! only if the kernel seems not to have them. The kernel logs each such call (audit type 1326, with the call's number). The
//! daemon is not killed for it: a call that was forgotten here must not end what it is there to keep up.

use std::{collections::BTreeMap, env::consts::ARCH};

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Fence;

mod install;
mod list;

/// Sockets that the daemon makes: for the API, for checks and metrics, and for routes and neighbours.
pub(super) const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Namespaces that `clone` might make.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Closes all other calls to this thread and those that it starts.
pub(super) fn fence() -> Fence {
    let Ok(arch) = TargetArch::try_from(ARCH) else {
        return Fence::Missing(format!("there is no filter for {ARCH} processors"));
    };
    let filters = quiet(arch).and_then(|quiet| Ok((quiet, filter(arch)?)));
    match filters.map(|(quiet, filter)| install::install(&quiet, false).and_then(|()| install::install(&filter, true)))
    {
        Ok(Ok(())) => Fence::Whole,
        Ok(Err(error)) => Fence::Missing(format!("the kernel takes no filter: {error}")),
        Err(error) => Fence::Missing(format!("the filter cannot be made: {error}")),
    }
}

/// A filter for the one call that is refused every day and is not worth a line in a log: `clone3` hides its flags from
/// filters, so the C library is to make threads by `clone`.
fn quiet(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?.try_into()
}

/// The filter, compiled.
fn filter(arch: TargetArch) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = list::CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let families = FAMILIES.iter().map(|family| {
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, word(*family))?;
        SeccompRule::new(vec![is])
    });
    rules.insert(libc::SYS_socket, families.collect::<Result<_, _>>()?);
    // The other filter's.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Threads, but neither processes nor namespaces.
    let (mask, wanted) = (word(NAMESPACES | libc::CLONE_THREAD), word(libc::CLONE_THREAD));
    let thread = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), wanted)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    let otherwise = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)?.try_into()
}

/// The bits of a C `int`.
fn word(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_filter_for_the_processors_that_lb_is_built_for() {
        for arch in [TargetArch::x86_64, TargetArch::aarch64] {
            let length = filter(arch).unwrap().len();
            // The kernel takes 4096 instructions.
            assert!((100..1000).contains(&length), "{length} instructions");
        }
    }

    #[test]
    fn what_would_make_another_program_of_it_is_not_on_the_list() {
        let never = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_setuid,
            libc::SYS_init_module,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
        ];
        assert!(list::CALLS.iter().all(|call| !never.contains(call)));
    }
}
