//! The attributes of a file system's objects.
use ondisk::sa::ZPL_ATTRIBUTES;

/// An attribute. The discriminant is its place in [`ZPL_ATTRIBUTES`], not its number in a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Attr {
    /// Last access: seconds, nanoseconds.
    Atime,
    /// Last content change.
    Mtime,
    /// Last attribute change.
    Ctime,
    /// Creation.
    Crtime,
    /// Generation: the transaction group of creation.
    Gen,
    /// Type and permissions.
    Mode,
    /// Bytes; entries + 2 for directories.
    Size,
    /// Object of the parent directory.
    Parent,
    /// Hard links.
    Links,
    /// Object of the extended-attribute directory.
    Xattr,
    /// Device number.
    Rdev,
    /// Flags.
    Flags,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// Padding of old file systems.
    Pad,
    /// ACL of old file systems.
    ZnodeAcl,
    /// Number of ACL entries.
    DaclCount,
    /// Target of a symbolic link.
    Symlink,
    /// Virus-scan stamp.
    Scanstamp,
    /// ACL entries.
    DaclAces,
    /// Extended attributes, packed.
    Dxattr,
    /// Project.
    Projid,
}

impl Attr {
    /// All of them, in the order of [`ZPL_ATTRIBUTES`].
    pub const ALL: [Self; ZPL_ATTRIBUTES.len()] = [
        Self::Atime,
        Self::Mtime,
        Self::Ctime,
        Self::Crtime,
        Self::Gen,
        Self::Mode,
        Self::Size,
        Self::Parent,
        Self::Links,
        Self::Xattr,
        Self::Rdev,
        Self::Flags,
        Self::Uid,
        Self::Gid,
        Self::Pad,
        Self::ZnodeAcl,
        Self::DaclCount,
        Self::Symlink,
        Self::Scanstamp,
        Self::DaclAces,
        Self::Dxattr,
        Self::Projid,
    ];

    /// The name in the registry.
    pub fn name(self) -> &'static str {
        ZPL_ATTRIBUTES[self as usize].0
    }

    /// The attribute of that name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|attr| attr.name().as_bytes() == name)
    }
}
