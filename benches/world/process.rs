//! The `herald` binary as a process of its own: what it takes of memory and descriptors.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::callers::{Caller, Http};

/// The command, with nothing of this machine's environment in it.
pub fn command(env: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    command.env_clear().envs(env).env("HERALD_LOG", "warn").kill_on_drop(true);
    command
}

/// A `herald serve`.
pub struct Served {
    child: Child,
    pub caller: Caller,
}

impl Served {
    /// Starts it on a data directory, and returns once it is ready.
    pub async fn start(env: &BTreeMap<String, String>, data_dir: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = command(env);
        command.args(["serve", "--listen", &free.to_string(), "--data-dir"]).arg(data_dir);
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let base = format!("http://{free}");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        while !client
            .get(format!("{base}/readyz"))
            .send()
            .await
            .is_ok_and(|it| it.status().is_success())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { child, caller: Caller::Http(Http::new(&base)) }
    }

    /// What it holds right now.
    pub fn holds(&self) -> Holds {
        Holds::of(self.child.id().unwrap())
    }
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    /// Resident memory in KiB, without what is mapped from files.
    pub anonymous: u64,
    /// Resident memory in KiB.
    pub resident: u64,
    /// Open descriptors; 0 where only root may count them, because the process keeps to itself what it holds.
    pub descriptors: usize,
}

impl Holds {
    fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd"));
        let descriptors = descriptors.map_or(0, Iterator::count);
        Self { anonymous: kib("RssAnon:"), resident: kib("VmRSS:"), descriptors }
    }
}
