//! Resume tokens: what a receiver has of a stream, as text that the sender understands.
//!
//! `1-SUM-LENGTH-BYTES`, all hexadecimal: the first word of the fletcher-4 of the bytes, how long they are unpacked, and
//! the bytes themselves: a native nvlist in a zlib stream.
use super::dump::{BlockOptions, ResumePoint};
use crate::{Error, Result};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use nvpair::NvList;
use ondisk::Compression;

const VERSION: u64 = 1;
/// Longest list that is unpacked.
const LIST_MAX: usize = 64 << 10;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    /// Guid of the base; `None` for a full stream.
    pub from_guid: Option<u64>,
    /// Guid of the snapshot.
    pub to_guid: u64,
    /// Its name where it came from.
    pub to_name: String,
    /// Where to go on.
    pub point: ResumePoint,
    /// Bytes received.
    pub bytes: u64,
    /// What blocks may look like.
    pub blocks: BlockOptions,
    /// The stream was raw (of an encrypted dataset as it is stored).
    pub is_raw: bool,
}

impl ResumeToken {
    /// Reads a token.
    ///
    /// # Errors
    /// `Invalid` when it is none, or of another version.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = Error::Invalid;
        let mut parts = text.trim().splitn(4, '-');
        let mut number = || parts.next().and_then(|p| u64::from_str_radix(p, 16).ok());
        let (version, sum, len) = (number().ok_or(bad)?, number().ok_or(bad)?, number().ok_or(bad)?);
        let packed = from_hex(parts.next().ok_or(bad)?).ok_or(bad)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= LIST_MAX).ok_or(bad)?;
        if version != VERSION || codec::fletcher::fletcher4(&packed).0[0] != sum {
            return Err(bad);
        }
        let mut bytes = vec![0; len];
        codec::decompress(Compression::Gzip6, &packed, &mut bytes).map_err(|_| bad)?;
        Self::from_list(&NvList::decode_native(&bytes).map_err(|_| bad)?).ok_or(bad)
    }

    fn from_list(list: &NvList) -> Option<Self> {
        Some(Self {
            from_guid: list.get_u64("fromguid"),
            to_guid: list.get_u64("toguid")?,
            to_name: String::from(list.get_str("toname")?),
            point: ResumePoint { object: list.get_u64("object")?, offset: list.get_u64("offset")? },
            bytes: list.get_u64("bytes").unwrap_or(0),
            blocks: BlockOptions {
                large: list.contains("largeblockok"),
                compressed: list.contains("compressok"),
                embedded: list.contains("embedok"),
            },
            is_raw: list.contains("rawok"),
        })
    }

    /// The token's text.
    ///
    /// # Errors
    /// `TooLarge` for names no dataset has.
    pub fn format(&self) -> Result<String> {
        let mut list = NvList::new();
        if let Some(guid) = self.from_guid {
            list = list.add_u64("fromguid", guid);
        }
        list = list
            .add_u64("object", self.point.object)
            .add_u64("offset", self.point.offset)
            .add_u64("bytes", self.bytes)
            .add_u64("toguid", self.to_guid)
            .add_str("toname", self.to_name.as_str());
        let flags = [
            (self.blocks.large, "largeblockok"),
            (self.blocks.embedded, "embedok"),
            (self.blocks.compressed, "compressok"),
            (self.is_raw, "rawok"),
        ];
        for (_, name) in flags.iter().filter(|(is_set, _)| *is_set) {
            list = list.add_boolean(name);
        }
        let bytes = list.encode_native().map_err(|_| Error::TooLarge)?;
        // Lists of this size always shrink: most of their bytes are zeroes.
        let packed = codec::compress_raw(Compression::Gzip6, &bytes).ok_or(Error::TooLarge)?;
        let sum = codec::fletcher::fletcher4(&packed).0[0];
        let mut text = format!("{VERSION:x}-{sum:x}-{:x}-", bytes.len());
        packed.iter().try_for_each(|b| write!(text, "{b:02x}")).map_err(|_| Error::TooLarge)?;
        Ok(text)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > LIST_MAX {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token of OpenZFS 2.3.2.
    const TOKEN: &str = "1-ec49c96cd-110-789c636064000310a500c4ec50360710e72765a5269730302c8228c1944f4b2b4e2d618003903c1b927c5265496a3190de20ce86557f497e7a69660a03439bcafd4b46bf5a4e6920c97382e5f312735319188a53f3528af5d38a1d1211f6f03220dc9d9358949e9a94939f9c9d9f0d1293809a0f934fcd4d4a4d014a81f471238927e7e71614a516174374410000999b23c2";

    #[test]
    fn a_token_of_openzfs() {
        let token = ResumeToken::parse(TOKEN).unwrap();
        assert_eq!(token.to_name, "sends/fs@a");
        assert_eq!(token.to_guid, 0xca84_fa32_d2df_2486);
        assert_eq!(token.point, ResumePoint { object: 0xa2, offset: 0 });
        assert_eq!(token.from_guid, None);
        assert_eq!(token.blocks, BlockOptions { large: true, compressed: true, embedded: true });
        assert_eq!(token.bytes, 0x617b0);
        assert_eq!(ResumeToken::parse(&token.format().unwrap()), Ok(token));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for index in 0..TOKEN.len() {
            let mut bytes = TOKEN.as_bytes().to_vec();
            bytes[index] = if bytes[index] == b'3' { b'4' } else { b'3' };
            let text = String::from_utf8(bytes).unwrap();
            // The last digits may be padding that the sum, which goes by words, leaves out.
            let is_known = index + 16 > TOKEN.len();
            assert!(is_known || ResumeToken::parse(&text).is_err(), "{index}");
        }
        for text in ["", "1", "1-2-3", "1-0-0-", "2-0-0-00", "1-0-fffffffffff-00", "1-0-1-0g"] {
            assert_eq!(ResumeToken::parse(text), Err(Error::Invalid), "{text}");
        }
    }
}
