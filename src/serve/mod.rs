//! `hexcuda serve`: runs in a browser, also while they train.
//!
//! One thread answers; files are read and meshes made on others, a few at a time. The folder is only ever read. What a
//! page makes (latents, dropped meshes) is kept in memory, the few that were used last.

mod about;
mod app;
mod brush;
mod edit;
mod engine;
mod events;
mod export;
mod failure;
mod latents;
mod lru;
mod routes;
mod runs;
mod security;
mod source;
mod wire;

pub use export::{Contents, LIMIT, export};

use crate::device::Device;
use crate::error::{Error, Result};
use app::App;
use axum::Router;
use futures_util::future::select;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use security::Guard;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// How long open answers may take once the server is to end.
const GRACE: Duration = Duration::from_secs(2);
/// Connections at a time; others wait until one is closed.
const MOST_CONNECTIONS: usize = 256;
/// How long a client may take to say what it wants.
const LONGEST_HEAD: Duration = Duration::from_secs(20);
/// Before another connection is tried after one that could not be had.
const PAUSE: Duration = Duration::from_millis(100);
/// Threads that read files and compute, at most.
const MOST_THREADS: usize = 16;

/// What is served, and where.
pub struct Options {
    /// A run, or a folder with runs below it; it need not be there yet.
    pub root: PathBuf,
    pub host: IpAddr,
    /// 0: any.
    pub port: u16,
    /// What computes.
    pub device: Device,
    /// Things that are computed at a time.
    pub jobs: usize,
    /// No line for refused requests.
    pub quiet: bool,
}

/// A server on a thread of its own; dropped, it goes on until the process ends.
pub struct Server {
    address: SocketAddr,
    token: Option<String>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// # Errors
    /// An address that cannot be had.
    pub fn start(options: Options) -> Result<Self> {
        let wanted = SocketAddr::new(options.host, options.port);
        let failed = |error: std::io::Error| {
            Error::new(wanted, error, "name another --port, or 0 for any, or another --host")
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let guard = Arc::new(Guard::new(address, options.quiet)?);
        let token = guard.token.clone();
        let app = Arc::new(App::new(&options.root, options.device, options.jobs.max(1)));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MOST_THREADS)
            .thread_name("hexcuda-serve")
            .build()
            .map_err(failed)?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            runtime.block_on(answer(app, guard, listener, ended));
            runtime.shutdown_timeout(GRACE);
        };
        let thread = std::thread::Builder::new().name("hexcuda-serve".into()).spawn(work).map_err(failed)?;
        Ok(Self { address, token, end, thread })
    }

    /// What to open in a browser.
    pub fn url(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "localhost".to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        let token = self.token.as_ref().map_or(String::new(), |token| format!("?token={token}"));
        format!("http://{host}:{}/{token}", self.address.port())
    }

    /// Ends it, with what is being answered, but within two seconds.
    pub fn stop(self) {
        // An error says that it has ended by itself.
        let _ = self.end.send(());
        let _ = self.thread.join();
    }
}

async fn answer(app: Arc<App>, guard: Arc<Guard>, listener: TcpListener, ended: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let watching = tokio::spawn(events::watch(app.clone()));
    let router = routes::router(app.clone());
    let router = router.layer(axum::middleware::from_fn_with_state(guard, security::guard));
    let open = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    let accepting = accept(listener, &service, &open);
    let told = async {
        // Sent, or dropped with its server: only the first ends it.
        if ended.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    select(pin!(accepting), pin!(told)).await;
    app.feed.end();
    let _ = tokio::time::timeout(GRACE, open.shutdown()).await;
    watching.abort();
}

/// Takes connections, so many at a time; whoever takes too long to say what it wants is let go.
async fn accept(
    listener: tokio::net::TcpListener,
    service: &TowerToHyperService<Router>,
    open: &GracefulShutdown,
) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(LONGEST_HEAD);
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or a client that has gone already.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Small answers go at once.
        let _ = stream.set_nodelay(true);
        let connection = open.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        tokio::spawn(async move {
            // One that fails is the client's.
            let _ = connection.await;
            drop(place);
        });
    }
}
