//! placeholder
use std::path::Path;
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
pub struct CopyError;
pub struct PrivateCopy;
impl PrivateCopy {
    pub fn open(_: &Path) -> Result<Self, CopyError> {
        Err(CopyError)
    }
    pub fn generation(&self) -> &str {
        ""
    }
    pub fn begin(&mut self, _: u64) -> Result<(), CopyError> {
        Err(CopyError)
    }
    pub fn end_together(&mut self, _: u64, _: u64) -> Result<(), CopyError> {
        Err(CopyError)
    }
    pub fn go_on_alone(&mut self, _: [u8; 16]) -> Result<(), CopyError> {
        Err(CopyError)
    }
    pub fn end_alone(&mut self) -> Result<(), CopyError> {
        Err(CopyError)
    }
}
