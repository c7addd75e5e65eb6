//! Standard clients, of Debian's libnbd-bin: `scripts/packages.sh` installs it.

use std::{path::Path, process::Output, sync::Arc, time::Duration};

use disk_server::{Export, Image, client::Claim};

use crate::rig::{Client, FIRST, Rig};

async fn run(command: &str, arguments: &[&str]) -> Output {
    let output = tokio::process::Command::new(command)
        .args(arguments)
        .output()
        .await;
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {command} of libnbd-bin ({error}): scripts/packages.sh installs it")
    });
    assert!(
        output.status.success(),
        "{command} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn export(folder: &Path, name: &str, bytes: &[u8]) -> Export {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    Export {
        name: name.to_owned(),
        storage: Arc::new(Image::open(&path, false, Duration::ZERO).unwrap()),
        read_only: false,
    }
}

/// Bytes that do not repeat, and no power of two of them.
fn pattern() -> Vec<u8> {
    let words = (0u32..1_400_000).map(|word| word.wrapping_mul(0x9e37_79b1));
    let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    bytes.truncate(5 * 1024 * 1024 + 512);
    bytes
}

#[tokio::test]
async fn nbdcopy_reads_the_image_while_a_bound_client_writes_it() {
    let rig = Rig::with_image(&pattern()).await;
    let mut writer = rig.connect(Claim::TakeOver(FIRST)).await.unwrap();
    writer.write(1 << 20, &[0xcc; 4096]).await.unwrap();
    let mut expected = pattern();
    expected[1 << 20..][..4096].fill(0xcc);
    let copy = rig.folder.path().join("copy");
    // Over several connections at once, as it does where a server allows it; by name, then as the default.
    for name in ["disk", ""] {
        let uri = format!("nbd://{}/{name}", rig.disks);
        run("nbdcopy", &[&uri, copy.to_str().unwrap()]).await;
        assert!(std::fs::read(&copy).unwrap() == expected, "{uri}");
    }
    writer.write(0, &[1; 512]).await.unwrap();
}

#[tokio::test]
async fn nbdcopy_cannot_write() {
    let rig = Rig::with_image(&[7; 4096]).await;
    let source = rig.folder.path().join("source");
    std::fs::write(&source, [9; 4096]).unwrap();
    let uri = format!("nbd://{}/disk", rig.disks);
    let output = tokio::process::Command::new("nbdcopy")
        .args([source.to_str().unwrap(), &uri])
        .output();
    assert!(!output.await.expect("nbdcopy").status.success());
    assert_eq!(rig.image(), [7; 4096]);
}

#[tokio::test]
async fn nbdinfo_lists_what_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let exports = vec![
        export(folder.path(), "root", &[7; 1 << 20]),
        export(folder.path(), "data", &[7; 4096 + 512]),
    ];
    let rig = Rig::of(exports, folder).await;
    let uri = format!("nbd://{}", rig.disks);
    let told = run("nbdinfo", &["--list", &uri]).await.stdout;
    let told = String::from_utf8(told).unwrap();
    for expected in ["export=\"root\"", "export=\"data\"", "is_read_only: true"] {
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
    let size = run("nbdinfo", &["--size", &format!("{uri}/data")]).await;
    assert_eq!(String::from_utf8(size.stdout).unwrap().trim(), "4608");
    Client::connect(rig.disks, "root", Claim::Reader)
        .await
        .unwrap();
}
