//! A process that keeps its memory to itself: the tokens are in it.

use rustix::process::{Resource, Rlimit, setrlimit};

/// From now on a crash leaves no core file behind. On Linux it hands none to a program either, as `systemd-coredump` (see
/// core(5): the limit does not count there), and no other process of the same user reads this one's memory or environment or
/// attaches a debugger; root still does both (see `PR_SET_DUMPABLE` in prctl(2)).
///
/// Where the system refuses either, Herald serves all the same: it is a second net.
pub(super) fn keep() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
