//! Exceptions as values (SDM 3A 6.15).

/// An exception that an instruction raised and that is about to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exception {
    /// 0 to 31.
    pub vector: u8,
    /// What is pushed after the return address, for the vectors that have one.
    pub error_code: Option<u32>,
    /// The linear address that a page fault leaves in CR2.
    pub fault_address: Option<u64>,
    /// What a debug exception leaves in the low bits of DR6.
    pub debug_status: u64,
}

impl Exception {
    const fn plain(vector: u8) -> Self {
        Self {
            vector,
            error_code: None,
            fault_address: None,
            debug_status: 0,
        }
    }

    const fn with_code(vector: u8, error_code: u32) -> Self {
        Self {
            error_code: Some(error_code),
            ..Self::plain(vector)
        }
    }

    /// #DE.
    pub const DIVIDE: Self = Self::plain(0);
    /// #BP.
    pub const BREAKPOINT: Self = Self::plain(3);
    /// #OF.
    pub const OVERFLOW: Self = Self::plain(4);
    /// #BR.
    pub const BOUND: Self = Self::plain(5);
    /// #UD.
    pub const INVALID_OPCODE: Self = Self::plain(6);
    /// #NM.
    pub const DEVICE_NOT_AVAILABLE: Self = Self::plain(7);
    /// #DF.
    pub const DOUBLE_FAULT: Self = Self::with_code(8, 0);
    /// #MF.
    pub const X87_FLOATING_POINT: Self = Self::plain(16);
    /// #AC.
    pub const ALIGNMENT_CHECK: Self = Self::with_code(17, 0);
    /// #XM.
    pub const SIMD_FLOATING_POINT: Self = Self::plain(19);

    /// #DB, with what goes to DR6.
    #[must_use]
    pub const fn debug(status: u64) -> Self {
        Self {
            debug_status: status,
            ..Self::plain(1)
        }
    }

    /// #TS.
    #[must_use]
    pub const fn invalid_tss(code: u32) -> Self {
        Self::with_code(10, code)
    }

    /// #NP.
    #[must_use]
    pub const fn segment_not_present(code: u32) -> Self {
        Self::with_code(11, code)
    }

    /// #SS.
    #[must_use]
    pub const fn stack_fault(code: u32) -> Self {
        Self::with_code(12, code)
    }

    /// #GP.
    #[must_use]
    pub const fn general_protection(code: u32) -> Self {
        Self::with_code(13, code)
    }

    /// #PF.
    #[must_use]
    pub const fn page_fault(code: u32, address: u64) -> Self {
        Self {
            fault_address: Some(address),
            ..Self::with_code(14, code)
        }
    }
}
