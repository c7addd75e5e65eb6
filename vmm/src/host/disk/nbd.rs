//! placeholder
use super::*;
use std::{str::FromStr, sync::Arc, time::Duration};
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
pub struct NbdOpenError;
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdAddress;
impl FromStr for NbdAddress {
    type Err = String;
    fn from_str(_: &str) -> Result<Self, String> {
        Err("not yet".into())
    }
}
pub struct NbdDisk;
impl NbdDisk {
    pub fn open(
        _: u8,
        _: NbdAddress,
        _: Duration,
        _: Arc<dyn DiskSink>,
    ) -> Result<Self, NbdOpenError> {
        Err(NbdOpenError)
    }
}
impl HostDisk for NbdDisk {
    fn sectors(&self) -> u64 {
        0
    }
    fn submit(&self, _: DiskRequest) {}
    fn grant(&self, _: Grant) -> Result<(), String> {
        Ok(())
    }
    fn settle(&self) {}
}
