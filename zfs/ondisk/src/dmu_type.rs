//! DMU object types: what an object (or a bonus buffer) holds, how it is byte-swapped, whether it counts as metadata.
//!
//! Two styles share one byte. Old types are small numbers with a table of traits; new ones (bit 7 set) carry their
//! traits in the byte itself: `0x80 | 0x40 metadata | 0x20 encrypted | byteswap class`.

/// How a block is turned from foreign into little-endian byte order (`dmu_object_byteswap`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ByteswapClass {
    /// Bytes: nothing to do.
    U8 = 0,
    /// 16-bit words.
    U16 = 1,
    /// 32-bit words.
    U32 = 2,
    /// 64-bit words.
    U64 = 3,
    /// ZAP blocks.
    Zap = 4,
    /// Arrays of dnodes.
    Dnode = 5,
    /// An object set's root block.
    Objset = 6,
    /// The fixed znode of ZPL versions before 5.
    Znode = 7,
    /// ACL of ZPL version 0.
    OldAcl = 8,
    /// ACL.
    Acl = 9,
}

impl ByteswapClass {
    const ALL: [Self; 10] = [
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::Zap,
        Self::Dnode,
        Self::Objset,
        Self::Znode,
        Self::OldAcl,
        Self::Acl,
    ];

    /// The class of that id, if the format defines it.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }
}

/// Type of an object or bonus buffer (`dmu_object_type_t`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct DmuType(pub u8);

macro_rules! dmu_types {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $class:ident, $meta:literal, $enc:literal;)*) => {
        impl DmuType {
            $($(#[$doc])* pub const $name: Self = Self($id);)*
        }

        /// Class, metadata, encrypted: by old-style id.
        const OLD_STYLE: &[(ByteswapClass, bool, bool)] = &[
            $((ByteswapClass::$class, $meta, $enc),)*
        ];
    };
}

dmu_types! {
    /// No object.
    NONE = 0, U8, true, false;
    /// Pool directory.
    OBJECT_DIRECTORY = 1, Zap, true, false;
    /// Array of object numbers (metaslab array).
    OBJECT_ARRAY = 2, U64, true, false;
    /// XDR nvlist.
    PACKED_NVLIST = 3, U8, true, false;
    /// Bonus of a packed nvlist: its length.
    PACKED_NVLIST_SIZE = 4, U64, true, false;
    /// List of block pointers.
    BPOBJ = 5, U64, true, false;
    /// Bonus of a bpobj.
    BPOBJ_HDR = 6, U64, true, false;
    /// Bonus of a space map.
    SPACE_MAP_HEADER = 7, U64, true, false;
    /// Space map entries.
    SPACE_MAP = 8, U64, true, false;
    /// Intent log block.
    INTENT_LOG = 9, U64, true, true;
    /// Dnode file.
    DNODE = 10, Dnode, true, true;
    /// Object set root block.
    OBJSET = 11, Objset, true, false;
    /// DSL directory.
    DSL_DIR = 12, U64, true, false;
    /// Children of a DSL directory by name.
    DSL_DIR_CHILD_MAP = 13, Zap, true, false;
    /// Snapshots of a dataset by name.
    DSL_DS_SNAP_MAP = 14, Zap, true, false;
    /// Properties.
    DSL_PROPS = 15, Zap, true, false;
    /// DSL dataset.
    DSL_DATASET = 16, U64, true, false;
    /// Fixed znode of ZPL versions before 5.
    ZNODE = 17, Znode, true, false;
    /// ACL of ZPL version 0.
    OLDACL = 18, OldAcl, true, true;
    /// File data.
    PLAIN_FILE_CONTENTS = 19, U8, false, true;
    /// Directory entries.
    DIRECTORY_CONTENTS = 20, Zap, true, true;
    /// Master node of a file system.
    MASTER_NODE = 21, Zap, true, false;
    /// Files that are open or unlinked only on paper.
    UNLINKED_SET = 22, Zap, true, true;
    /// Volume data.
    ZVOL = 23, U8, false, true;
    /// Volume properties.
    ZVOL_PROP = 24, Zap, true, false;
    /// Other bytes.
    PLAIN_OTHER = 25, U8, false, true;
    /// Other 64-bit words.
    UINT64_OTHER = 26, U64, false, true;
    /// Other ZAP.
    ZAP_OTHER = 27, Zap, true, false;
    /// Persistent error log.
    ERROR_LOG = 28, Zap, true, false;
    /// Pool history.
    SPA_HISTORY = 29, U8, true, false;
    /// Bonus of the pool history.
    SPA_HISTORY_OFFSETS = 30, U64, true, false;
    /// Pool properties.
    POOL_PROPS = 31, Zap, true, false;
    /// Delegated permissions.
    DSL_PERMS = 32, Zap, true, false;
    /// ACL.
    ACL = 33, Acl, true, true;
    /// System ACL.
    SYSACL = 34, U8, true, true;
    /// FUID table.
    FUID = 35, U8, true, true;
    /// Bonus of the FUID table.
    FUID_SIZE = 36, U64, true, false;
    /// Clones of the next snapshot.
    NEXT_CLONES = 37, Zap, true, false;
    /// Datasets a scan has yet to visit.
    SCAN_QUEUE = 38, Zap, true, false;
    /// Space used by users, groups, projects.
    USERGROUP_USED = 39, Zap, true, true;
    /// Quotas of users, groups, projects.
    USERGROUP_QUOTA = 40, Zap, true, true;
    /// Holds on a snapshot.
    USERREFS = 41, Zap, true, false;
    /// Dedup table.
    DDT_ZAP = 42, Zap, true, false;
    /// Dedup statistics.
    DDT_STATS = 43, Zap, true, false;
    /// System attributes (bonus or spill). Its byte order is settled per attribute by the reader.
    SA = 44, U8, true, true;
    /// SA master node.
    SA_MASTER_NODE = 45, Zap, true, true;
    /// SA attribute registry.
    SA_ATTR_REGISTRATION = 46, Zap, true, true;
    /// SA layouts.
    SA_ATTR_LAYOUTS = 47, Zap, true, true;
    /// Translations of a scan.
    SCAN_XLATE = 48, Zap, true, false;
    /// Fake type of deduplicated blocks.
    DEDUP = 49, U8, false, true;
    /// Dead list.
    DEADLIST = 50, Zap, true, false;
    /// Bonus of a dead list.
    DEADLIST_HDR = 51, U64, true, false;
    /// Clones of a DSL directory.
    DSL_CLONES = 52, Zap, true, false;
    /// Sub-objects of a bpobj.
    BPOBJ_SUBOBJ = 53, U64, true, false;
}

impl DmuType {
    /// Number of old-style types.
    pub const COUNT: u8 = 54;
    /// New-style bytes, metadata.
    pub const OTN_U8_METADATA: Self = Self(0xc0);
    /// New-style 64-bit words, metadata.
    pub const OTN_U64_METADATA: Self = Self(0xc3);
    /// New-style ZAP, not metadata.
    pub const OTN_ZAP_DATA: Self = Self(0x84);
    /// New-style array of 64-bit words, metadata.
    pub const OTN_UINT64_METADATA: Self = Self(0xc3);
    /// New-style ZAP, metadata.
    pub const OTN_ZAP_METADATA: Self = Self(0xc4);

    const NEW_STYLE: u8 = 0x80;
    const METADATA: u8 = 0x40;
    const ENCRYPTED: u8 = 0x20;
    const CLASS_MASK: u8 = 0x1f;

    /// The type of that id, if the format defines it.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        let ty = Self(id);
        ty.byteswap_class().map(|_| ty)
    }

    /// The id.
    #[must_use]
    pub const fn id(self) -> u8 {
        self.0
    }

    /// How blocks of this type are byte-swapped; `None` if the type is not defined.
    #[must_use]
    pub fn byteswap_class(self) -> Option<ByteswapClass> {
        if self.0 & Self::NEW_STYLE != 0 {
            ByteswapClass::from_id(self.0 & Self::CLASS_MASK)
        } else {
            OLD_STYLE.get(usize::from(self.0)).map(|row| row.0)
        }
    }

    /// Blocks of this type are metadata (more copies, at least fletcher-4, always compressed).
    #[must_use]
    pub fn is_metadata(self) -> bool {
        if self.0 & Self::NEW_STYLE != 0 {
            self.0 & Self::METADATA != 0
        } else {
            OLD_STYLE.get(usize::from(self.0)).is_none_or(|row| row.1)
        }
    }

    /// Blocks of this type are encrypted in an encrypted dataset.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        if self.0 & Self::NEW_STYLE != 0 {
            self.0 & Self::ENCRYPTED != 0
        } else {
            OLD_STYLE.get(usize::from(self.0)).is_some_and(|row| row.2)
        }
    }

    /// The object is a ZAP.
    #[must_use]
    pub fn is_zap(self) -> bool {
        self.byteswap_class() == Some(ByteswapClass::Zap)
    }

    /// A block of this type may be embedded in its block pointer.
    #[must_use]
    pub const fn may_embed(self) -> bool {
        !matches!(self, Self::DNODE | Self::OBJSET)
    }
}
