//! `lockstep disk-server`: disk images, and the arbiter that says who may write them.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use arbiter::Store;
use clap::Args;
use disk_server::{DEFAULT_PORT, Export, Image, Server, Storage};
use tokio::{net::TcpListener, sync::mpsc};
use vmm::host::Role;
use vmm::{host::EventSink, session::reports::Reporter};

use super::stop_signal;

/// How long the state file or an image may be locked by somebody else: by a server that was killed, until its last write has ended.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that wait to be printed at most.
const MAX_NOTICES: usize = 256;

/// Options of `lockstep disk-server`.
#[derive(Args)]
pub struct DiskServerArgs {
    /// Serve the images over NBD on this address, HOST[:PORT]
    #[arg(long, value_name = "ADDR", default_value_t = format!("127.0.0.1:{DEFAULT_PORT}"))]
    listen: String,
    /// Answer claims of the term on this address, HOST:PORT: the replicas' --arbiter
    #[arg(long, value_name = "ADDR")]
    arbiter_listen: String,
    /// Keep the term in this file, which is made if it does not exist
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// A raw image or block device, and what it is called in nbd://HOST:PORT/NAME; with ,ro nobody can write it
    #[arg(required = true, value_name = "NAME=PATH[,ro]", value_parser = parse_image)]
    images: Vec<ImageArg>,
}

/// One image as on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ImageArg {
    name: String,
    path: PathBuf,
    read_only: bool,
}

fn parse_image(given: &str) -> Result<ImageArg, String> {
    let (name, rest) = given
        .split_once('=')
        .ok_or("write NAME=PATH, such as root=/srv/root.img")?;
    let (path, read_only) = match rest.strip_suffix(",ro") {
        Some(path) => (path, true),
        None => (rest, false),
    };
    if name.is_empty() || path.is_empty() {
        return Err("name or path is missing: write NAME=PATH".to_owned());
    }
    // It is a part of an address, in front of options.
    if name.contains([',', '/', '?', '#']) {
        return Err("a name stands in nbd://HOST:PORT/NAME and has no , / ? or #".to_owned());
    }
    Ok(ImageArg {
        name: name.to_owned(),
        path: PathBuf::from(path),
        read_only,
    })
}

/// Serves images and claims until it is stopped.
pub fn run(args: &DiskServerArgs) -> anyhow::Result<ExitCode> {
    let reporter = Reporter::new(Role::DiskServer, EventSink::none());
    let store = Store::open(&args.state, LOCK_TIMEOUT)?;
    let exports = args.images.iter().map(open).collect::<Result<_, _>>()?;
    let (notices, told) = mpsc::channel(MAX_NOTICES);
    let server = Server::new(exports, store, notices)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("Cannot start the I/O thread")?
        .block_on(async {
            let disks = listen(&with_port(&args.listen)).await?;
            let claims = listen(&args.arbiter_listen).await?;
            tokio::spawn(print(told, reporter.clone()));
            for export in &args.images {
                let access = if export.read_only { ", read only" } else { "" };
                reporter.note(&format!(
                    "{} is {}{access}",
                    export.name,
                    export.path.display()
                ));
            }
            reporter.note(&format!(
                "listening on {} for disks, on {} for claims",
                disks.local_addr()?,
                claims.local_addr()?
            ));
            let stopped = async {
                stop_signal().await;
            };
            server.serve(disks, claims, stopped).await?;
            Ok(ExitCode::SUCCESS)
        })
}

fn open(image: &ImageArg) -> anyhow::Result<Export> {
    let opened = Image::open(&image.path, image.read_only, LOCK_TIMEOUT)?;
    Ok(Export {
        name: image.name.clone(),
        storage: Arc::new(opened) as Arc<dyn Storage>,
        read_only: image.read_only,
    })
}

/// The address with NBD's own port, if it names none.
fn with_port(address: &str) -> String {
    let (_, after_host) = address.rsplit_once(']').unwrap_or(("", address));
    match after_host.contains(':') {
        true => address.to_owned(),
        false => format!("{address}:{DEFAULT_PORT}"),
    }
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("Cannot listen on {address}: is another disk server running there?")
    })
}

async fn print(mut told: mpsc::Receiver<disk_server::Notice>, reporter: Reporter) {
    while let Some(notice) = told.recv().await {
        reporter.note(&notice.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_image, with_port};

    #[test]
    fn an_image_is_a_name_a_path_and_perhaps_read_only() {
        let image = parse_image("root=/srv/a=b,c.img").unwrap();
        assert_eq!((image.name.as_str(), image.read_only), ("root", false));
        assert_eq!(image.path.to_str(), Some("/srv/a=b,c.img"));
        let image = parse_image("tools=t.img,ro").unwrap();
        assert_eq!(
            (image.path.to_str(), image.read_only),
            (Some("t.img"), true)
        );
        for wrong in ["/srv/root.img", "=a", "a=", "a=,ro", "a/b=c", "a,b=c"] {
            parse_image(wrong).unwrap_err();
        }
    }

    #[test]
    fn the_port_is_nbds_unless_it_is_named() {
        assert_eq!(with_port("0.0.0.0"), "0.0.0.0:10809");
        assert_eq!(with_port("[::]"), "[::]:10809");
        assert_eq!(with_port("[::1]:7"), "[::1]:7");
        assert_eq!(with_port("host:7"), "host:7");
    }
}
