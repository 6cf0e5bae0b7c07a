//! Everything about a write that needs no allocation: what is stored, and its checksum.
//!
//! Rules of the format: zeroes are not stored (unless compression is off); a compressed form is kept when it saves an
//! eighth and, padded to the pool's allocation unit, is still smaller than the block; what fits into a block pointer
//! goes there.
use super::policy::{PASS_DONT_COMPRESS, WritePolicy};
use super::storage::{Format, Storage};
use crate::{Error, Result};
use abd::Abd;
use codec::Hasher;
use ondisk::blkptr::{DVAS_PER_BP, EMBEDDED_PAYLOAD_SIZE, MAX_BLOCK_SIZE, SECTOR_SIZE};
use ondisk::{BlkPtr, Checksum, Compression, Digest, DmuType, Dva, Txg};

/// A block ready to be issued.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) kind: DmuType,
    pub(super) level: u8,
    pub(super) copies: u8,
    pub(super) fill: u64,
    pub(super) lsize: u32,
    pub(super) small_max: u32,
    pub(super) checksum: Checksum,
    pub(super) form: Form,
}

/// A block's content as another pool has stored it (a stream brought it so): it is stored again as it is.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Never `Off`.
    pub compression: Compression,
    /// Shorter than the content, whole sectors.
    pub data: Abd,
}

/// How the block's content is stored.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// Only zeroes: not at all.
    Hole,
    /// In the block pointer.
    Embedded { payload: Abd, compression: Compression },
    /// In a block; the data is as it goes to disk.
    Block { data: Abd, compression: Compression, digest: Digest },
    /// In this block, which was written ahead.
    Written(BlkPtr),
}

impl Prepared {
    /// Whether it will be a hole.
    pub fn is_hole(&self) -> bool {
        matches!(self.form, Form::Hole)
    }

    /// Bytes it will take on disk for each copy, before rounding by the vdev; 0 for holes and embedded blocks.
    pub fn psize(&self) -> u32 {
        match &self.form {
            Form::Block { data, .. } => data.len() as u32,
            Form::Hole | Form::Embedded { .. } => 0,
            Form::Written(bp) => bp.psize(),
        }
    }

    /// A block that was written ahead, as `bp` says.
    pub(crate) fn written(bp: BlkPtr) -> Self {
        Self {
            kind: bp.dmu_type(),
            level: bp.level(),
            copies: bp.nr_dvas() as u8,
            fill: bp.fill(),
            lsize: bp.lsize(),
            small_max: 0,
            checksum: bp.checksum_alg(),
            form: Form::Written(bp),
        }
    }

    pub(super) fn nr_copies(&self) -> usize {
        usize::from(self.copies).clamp(1, DVAS_PER_BP)
    }

    /// The pointer of an embedded block.
    pub(super) fn embedded(&self, txg: Txg) -> Result<BlkPtr> {
        let Form::Embedded { payload, compression } = &self.form else { return Err(Error::Invalid) };
        let payload = payload.to_contiguous();
        let bp = BlkPtr::new_embedded(&payload, self.lsize, *compression, self.kind, self.level, txg);
        bp.map_err(|_| Error::Invalid)
    }

    /// The pointer of a block born in `txg` at these places.
    pub(super) fn pointer(&self, dvas: &[Dva], txg: Txg) -> Result<BlkPtr> {
        let Form::Block { data, compression, digest } = &self.form else { return Err(Error::Invalid) };
        let mut bp = BlkPtr::default();
        bp.set_type(self.kind);
        bp.set_level(self.level);
        bp.set_lsize(self.lsize);
        bp.set_psize(data.len() as u32);
        bp.set_compression(*compression);
        bp.set_checksum_alg(self.checksum);
        bp.set_little_endian(true);
        bp.set_birth(txg, txg);
        bp.set_fill(self.fill);
        bp.set_digest(*digest);
        for (index, dva) in dvas.iter().enumerate() {
            bp.set_dva(index, *dva).map_err(|_| Error::Invalid)?;
        }
        Ok(bp)
    }
}

impl Storage {
    /// Compresses and checksums a block's content. CPU only, any thread.
    ///
    /// A compression that is not built in is replaced by the default one: what is written is readable everywhere, and a
    /// property set elsewhere cannot stop a transaction group.
    ///
    /// # Errors
    /// `Unsupported` for a checksum that is not built in, `Invalid` for a length no block has.
    pub fn prepare(&self, data: Abd, policy: &WritePolicy) -> Result<Prepared> {
        let lsize = u32::try_from(data.len()).map_err(|_| Error::Invalid)?;
        if lsize == 0 || lsize > MAX_BLOCK_SIZE || !lsize.is_multiple_of(SECTOR_SIZE) {
            return Err(Error::Invalid);
        }
        let checksum = match policy.checksum {
            Checksum::On | Checksum::Inherit => Checksum::Fletcher4,
            other => other,
        };
        let compression = self.compression_of(policy);
        let form = if compression != Compression::Off && is_zero(&data) {
            Form::Hole
        } else {
            self.store(data, policy, compression, checksum)?
        };
        let WritePolicy { kind, level, copies, fill, small_max, .. } = *policy;
        Ok(Prepared { kind, level, copies, fill, lsize, small_max, checksum, form })
    }

    /// The same for content that is compressed already; `lsize` is its own size. What cannot be kept so is an error: see
    /// [`Storage::can_keep`].
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_packed(&self, lsize: usize, packed: Packed, policy: &WritePolicy) -> Result<Prepared> {
        let lsize = u32::try_from(lsize).map_err(|_| Error::Invalid)?;
        let checksum = match policy.checksum {
            Checksum::On | Checksum::Inherit => Checksum::Fletcher4,
            other => other,
        };
        let digest = self.digest(checksum, &packed.data, false)?;
        let form = Form::Block { data: packed.data, compression: packed.compression, digest };
        let WritePolicy { kind, level, copies, fill, small_max, .. } = *policy;
        Ok(Prepared { kind, level, copies, fill, lsize, small_max, checksum, form })
    }

    /// Whether a compressed form of `lsize` bytes may be stored as it is: whole sectors, smaller, and of a kind that every
    /// reader of the pool knows. zstd is the caller's to ask about, as its feature is counted for each dataset.
    pub fn can_keep(&self, compression: Compression, psize: usize, lsize: usize) -> bool {
        let is_known = match compression {
            Compression::Lz4 => self.format().contains(Format::LZ4),
            Compression::Zstd => true,
            other => other != Compression::Off && codec::supports_compression(other),
        };
        is_known && psize > 0 && psize < lsize && psize.is_multiple_of(SECTOR_SIZE as usize)
    }

    fn compression_of(&self, policy: &WritePolicy) -> Compression {
        if policy.pass >= PASS_DONT_COMPRESS {
            return Compression::Off;
        }
        match policy.compress {
            Compression::Off => Compression::Off,
            Compression::On | Compression::Inherit | Compression::Empty => self.default_compression(),
            other if codec::supports_compression(other) => other,
            _ => self.default_compression(),
        }
    }

    fn default_compression(&self) -> Compression {
        if self.format().contains(Format::LZ4) { Compression::Lz4 } else { Compression::Lzjb }
    }

    fn store(
        &self,
        data: Abd,
        policy: &WritePolicy,
        compression: Compression,
        checksum: Checksum,
    ) -> Result<Form> {
        let lsize = data.len();
        let compressed = match compression {
            Compression::Off => None,
            alg => codec::compress_raw(alg, &data.to_contiguous()),
        };
        let may_embed =
            policy.level == 0 && policy.kind.may_embed() && self.format().contains(Format::EMBEDDED_DATA);
        if let Some(payload) = compressed.as_ref().filter(|p| may_embed && p.len() <= EMBEDDED_PAYLOAD_SIZE) {
            return Ok(Form::Embedded { payload: Abd::copy_from(payload), compression });
        }
        let padded = compressed.and_then(|c| codec::compress::pad(c, lsize, self.min_alloc()));
        let (data, compression) = match padded {
            Some(padded) => (Abd::copy_from(&padded), compression),
            None => (data, Compression::Off),
        };
        let digest = self.digest(checksum, &data, false)?;
        Ok(Form::Block { data, compression, digest })
    }

    /// The digest of a block as it lies on disk; zero for the algorithms that have none.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn digest(&self, alg: Checksum, data: &Abd, is_foreign: bool) -> Result<Digest> {
        if matches!(alg, Checksum::Off | Checksum::NoParity) {
            return Ok(Digest::ZERO);
        }
        let salt = self.salt();
        let mut hasher = Hasher::new(alg, is_foreign, salt.as_ref()).map_err(|_| Error::Unsupported)?;
        data.chunks().for_each(|chunk| hasher.update(chunk));
        Ok(hasher.finish())
    }
}

/// Whether there is nothing but zeroes.
pub(super) fn is_zero(data: &Abd) -> bool {
    data.chunks().all(|chunk| {
        let (words, rest) = chunk.as_chunks::<16>();
        words.iter().all(|w| u128::from_ne_bytes(*w) == 0) && rest.iter().all(|b| *b == 0)
    })
}
