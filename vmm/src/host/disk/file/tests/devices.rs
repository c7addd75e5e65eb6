//! Block devices, with sectors of 512 and of 4096 bytes: files, seen through the kernel's loop driver.

use std::process::Command;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

use super::{model, *};

struct LoopDevice(PathBuf);

impl LoopDevice {
    /// `None` where the kernel has no loop driver: said, not hidden.
    fn on(file: &Path, sector_bytes: u32) -> Option<Self> {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes block devices: run it as root"
        );
        if !Path::new("/dev/loop-control").exists() {
            eprintln!("no loop driver here: block devices are not tested");
            return None;
        }
        let sector_bytes = sector_bytes.to_string();
        let output = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector_bytes])
            .arg(file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let name = String::from_utf8(output.stdout).unwrap();
        Some(Self(name.trim().into()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("-d").arg(&self.0).status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn block_devices_do_what_a_vector_does() {
    let beside = folder();
    let file = beside.path().join("image");
    let bytes = (model::SECTORS + 4) * SECTOR;
    for (sector_bytes, may_be_direct) in [(512, true), (4096, false)] {
        std::fs::write(&file, vec![0; bytes]).unwrap();
        let Some(device) = LoopDevice::on(&file, sector_bytes) else {
            return;
        };
        let mut runner = TestRunner::deterministic();
        for (backend, direct) in ways() {
            let options = FileOptions {
                backend,
                direct,
                ..FileOptions::default()
            };
            let operations = model::operations().new_tree(&mut runner).unwrap().current();
            let rig = Rig::on(device.0.clone(), folder(), options);
            assert_eq!(rig.disk.sectors() as usize * SECTOR, bytes);
            let access = rig.disk.access();
            eprintln!("{sector_bytes}-byte sectors: {access:?}");
            assert!(may_be_direct || !access.direct);
            rig.disk.grant(alone()).unwrap();
            let clear = DiskOperation::Discard {
                sector: 0,
                sectors: (bytes / SECTOR) as u32,
            };
            assert_eq!(rig.ask(clear), Ok(Vec::new()));
            model::check(&rig, &operations);
        }
    }
}
