//! `hexcuda serve`: runs in a browser.

use super::latent::EXACT;
use crate::console;
use crate::device::{Device, DeviceChoice};
use crate::error::{Error, Result};
use crate::serve::{Options, Server};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PORT: u16 = 7878;
/// Things that are computed at a time.
const JOBS: usize = 2;

static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Look at runs in a browser, also while they train, and edit shapes through their latents
///
/// Prints the address to open and answers until Ctrl-C. The folder is only read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run folder, or a folder with runs in it
    folder: PathBuf,
    #[command(flatten)]
    address: Address,
    /// What computes: auto, cpu, cuda, cuda:N or emulated
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

// Where the page is: its docs would stand in for those of the commands that have it.
#[derive(Debug, clap::Args)]
pub struct Address {
    /// 0: any that is free [default: 7878]
    #[arg(long)]
    port: Option<u16>,
    /// The address to answer at; another one than this machine's own asks for a token, which is printed [default: 127.0.0.1]
    #[arg(long, value_parser = host)]
    host: Option<IpAddr>,
}

impl Address {
    /// Serves `folder`, which need not be there yet, and prints the address.
    pub fn serve(&self, folder: &Path, device: Device) -> Result<Server> {
        let host = self.host.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let (root, port) = (folder.to_path_buf(), self.port.unwrap_or(PORT));
        let server = Server::start(Options { root, host, port, device, jobs: JOBS, quiet: false })?;
        console::result(server.url())?;
        Ok(server)
    }

    /// The same beside a training, where `wanted`. It computes on the CPU: a training has its card's memory and queue for
    /// itself.
    ///
    /// # Errors
    /// Wrong usage where an address is given for nothing.
    pub fn serve_beside(&self, folder: &Path, wanted: bool) -> Result<Option<Server>> {
        if wanted {
            return self.serve(folder, Device::Cpu).map(Some);
        }
        if self.port.is_some() || self.host.is_some() {
            let problem = "say where a page is, but there is none";
            return Err(Error::usage("--port and --host", problem, "leave them out, or have the page"));
        }
        Ok(None)
    }
}

pub fn run(args: Args) -> Result<()> {
    if !args.folder.is_dir() {
        let problem = if args.folder.exists() { "this is no folder" } else { "there is no such folder" };
        let remedy = "name a run, or a folder with runs in it";
        return Err(Error::new(args.folder.display(), problem, remedy));
    }
    let device = super::device(args.device, EXACT, false)?;
    let interrupt = interrupt()?;
    let server = args.address.serve(&args.folder, device)?;
    until(interrupt);
    server.stop();
    Ok(())
}

/// Set by Ctrl-C from now on.
pub fn interrupt() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| INTERRUPT.store(true, Ordering::SeqCst))
        .map_err(|error| Error::new("Ctrl-C", error, "run hexcuda in another shell"))?;
    Ok(&INTERRUPT)
}

/// Waits for it.
pub fn until(interrupt: &AtomicBool) {
    while !interrupt.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn host(text: &str) -> std::result::Result<IpAddr, String> {
    if text.eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| format!("{text} is no address, expected for example 127.0.0.1 or 0.0.0.0"))
}
