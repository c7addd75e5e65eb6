//! Servers that are not lockstep's.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
};

use disk_server::wire::{
    Ask, GREETING, OPTION_HEADER_BYTES, OptionHeader, OptionReply, REQUEST_BYTES, Reply, Request,
    flag, kind,
};
use vmm::{
    effect::DiskOperation,
    host::disk::{
        DiskError, Grant, HostDisk,
        nbd::{NbdDisk, NbdError},
    },
};

use crate::{
    recorder::{Recorder, TIMEOUT, read, request},
    server::FIRST,
};

/// Serves a disk of four sectors of fives, and knows nothing but reads, and no terms.
fn plain_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || converse(stream.unwrap()));
        }
    });
    format!("nbd://{address}/disk")
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&GREETING)?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut header = [0; OPTION_HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let header = OptionHeader::decode(&header).unwrap();
        let mut data = vec![0; header.length as usize];
        stream.read_exact(&mut data)?;
        match Ask::decode(header.option, &data).unwrap() {
            Ask::Info { name, .. } if name == "disk" => {
                let flags = flag::HAS_FLAGS | flag::READ_ONLY;
                let replies = [OptionReply::export(4 * 512, flags), OptionReply::ack()];
                for reply in replies {
                    stream.write_all(&reply.encode(header.option))?;
                }
                break;
            }
            Ask::Info { .. } => {
                let reply = OptionReply::error(kind::UNKNOWN, "no such disk");
                stream.write_all(&reply.encode(header.option))?;
            }
            _ => {
                let reply = OptionReply::error(kind::UNSUPPORTED, "what?");
                stream.write_all(&reply.encode(header.option))?;
            }
        }
    }
    loop {
        let mut header = [0; REQUEST_BYTES];
        stream.read_exact(&mut header)?;
        let Request { cookie, length, .. } = Request::decode(&header).unwrap();
        let result = Ok(());
        stream.write_all(&Reply { cookie, result }.encode())?;
        stream.write_all(&vec![5; length as usize])?;
    }
}

fn open(address: &str, recorder: &Arc<Recorder>) -> Result<NbdDisk, NbdError> {
    let sink = Arc::clone(recorder);
    NbdDisk::open(0, address.parse().unwrap(), TIMEOUT, sink)
}

#[test]
fn a_server_that_cannot_fence_is_read_and_never_written() {
    let recorder = Recorder::new();
    let disk = open(&plain_server(), &recorder).unwrap();
    let error = disk.grant(Grant::Alone { identity: FIRST }).unwrap_err();
    assert!(error.contains("lockstep disk-server"), "{error}");
    disk.submit(read(0, 0));
    assert_eq!(recorder.ended(0), Ok(vec![5; 512]));
    disk.submit(request(1, DiskOperation::Flush));
    assert_eq!(recorder.ended(1), Err(DiskError::Unsupported));
}

#[test]
fn what_is_no_such_disk_is_told_so() {
    let recorder = Recorder::new();
    let address = plain_server().replace("/disk", "/root");
    let error = open(&address, &recorder).map(drop).unwrap_err();
    assert!(matches!(error, NbdError::Connect { .. }), "{error}");
    assert!(vmm::host::with_causes(&error).contains("no disk of this name"));
    // A port that nobody listens on.
    let error = open("nbd://127.0.0.1:1/disk", &recorder).map(drop);
    assert!(matches!(error, Err(NbdError::Connect { .. })));
}

/// A session's loop is such a place.
#[test]
fn a_disk_can_be_opened_and_granted_from_inside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let recorder = Recorder::new();
        let disk = open(&plain_server(), &recorder).unwrap();
        disk.grant(Grant::ReadOnly).unwrap();
        disk.settle();
    });
}
