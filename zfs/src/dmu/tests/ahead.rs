//! Blocks that the intent log had written ahead of their group.
use super::*;

const SIZE: usize = 64 << 10;

/// Has a block written ahead, or says where it is already.
fn write_ahead(pool: &Pool, file: &Arc<Dnode>, offset: u64) -> BlkPtr {
    match file.copy_for_log(offset).unwrap().1 {
        Logged::Written(bp) => bp,
        Logged::Copy(copy) => {
            pool.objset.zil().unwrap().write_copies(vec![copy], &mut Vec::new()).unwrap()[0]
        }
    }
}

/// A file of three blocks of noise in the open group.
fn file_of(pool: &Pool) -> (Arc<Dnode>, Vec<u8>) {
    let data = noise(3 * SIZE, 7);
    let tx = pool.tx();
    let file = pool.file(&tx, SIZE as u32);
    file.write_slice(&tx, 0, &data).unwrap();
    (file, data)
}

fn on_disk(pool: &Pool, root: BlkPtr, file: &Dnode) -> (Vec<u8>, Arc<Dnode>) {
    let again = pool.reopen(root).hold(file.id()).unwrap();
    (again.read_vec(0, 3 * SIZE).unwrap(), again)
}

#[test]
fn the_group_takes_what_was_written_ahead() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let (file, data) = file_of(&pool);
    let bp = write_ahead(&pool, &file, SIZE as u64 + 5);
    assert_eq!(write_ahead(&pool, &file, SIZE as u64), bp, "written twice");
    let root = pool.sync();
    let (found, again) = on_disk(&pool, root, &file);
    assert_eq!(again.pointer(0, 1).unwrap(), bp);
    assert_ne!(again.pointer(0, 0).unwrap().dva(0), bp.dva(0));
    assert!(found == data);
    assert!(file.read_vec(0, data.len()).unwrap() == data);
}

#[test]
fn what_is_changed_afterwards_is_written_anew() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let (file, mut data) = file_of(&pool);
    let ahead: Vec<BlkPtr> = (0..3).map(|i| write_ahead(&pool, &file, i * SIZE as u64)).collect();
    {
        let tx = pool.tx();
        file.write_slice(&tx, 10, b"newer").unwrap();
        file.free_range(&tx, SIZE as u64, SIZE as u64).unwrap();
        file.write_slice(&tx, 2 * SIZE as u64, &noise(SIZE, 8)).unwrap();
    }
    data[10..15].copy_from_slice(b"newer");
    data[SIZE..2 * SIZE].fill(0);
    data[2 * SIZE..].copy_from_slice(&noise(SIZE, 8));
    // One of them once more, with its new content.
    let second = write_ahead(&pool, &file, 0);
    assert_ne!(second.dva(0), ahead[0].dva(0));
    let root = pool.sync();
    let (found, again) = on_disk(&pool, root, &file);
    assert!(found == data);
    assert_eq!(again.pointer(0, 0).unwrap(), second);
    assert!(again.pointer(0, 1).unwrap().is_hole());
    assert_ne!(again.pointer(0, 2).unwrap().dva(0), ahead[2].dva(0));
}

#[test]
fn a_newer_group_does_not_take_it_from_the_older() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let (file, data) = file_of(&pool);
    let bp = write_ahead(&pool, &file, 0);
    let older = pool.close();
    {
        let tx = pool.tx();
        file.write_slice(&tx, 0, b"newer").unwrap();
    }
    let newer = write_ahead(&pool, &file, 0);
    let (found, again) = on_disk(&pool, pool.write_out_while_open(older), &file);
    assert!(found == data);
    assert_eq!(again.pointer(0, 0).unwrap(), bp);
    let (found, again) = on_disk(&pool, pool.sync(), &file);
    assert!(found.starts_with(b"newer") && found[5..] == data[5..]);
    assert_eq!(again.pointer(0, 0).unwrap(), newer);
}

/// A group that is closed, or being written, writes its blocks itself: what the log has written for it belongs to the
/// open group, which frees it.
#[test]
fn what_a_closing_group_changed_is_written_for_the_log_alone() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let (file, data) = file_of(&pool);
    let txg = pool.close();
    let late = write_ahead(&pool, &file, 0);
    assert!(late.birth() > txg);
    // While the group is written its changes disappear one by one, and it is not on disk yet.
    let (objset, id) = (pool.objset.clone(), file.id());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let looks = seen.clone();
    *pool.books.at_birth.lock().unwrap() = Some(Box::new(move || {
        let file = objset.hold(id).unwrap();
        looks.lock().unwrap().push(matches!(file.copy_for_log(0).unwrap().1, Logged::Copy(_)));
    }));
    let (found, again) = on_disk(&pool, pool.write_out_while_open(txg), &file);
    *pool.books.at_birth.lock().unwrap() = None;
    assert!(found == data);
    assert_ne!(again.pointer(0, 0).unwrap().dva(0), late.dva(0));
    assert!(seen.lock().unwrap().len() > 3 && seen.lock().unwrap().iter().all(|is_copy| *is_copy));
    pool.sync();
}

#[test]
fn zeroes_and_what_fits_into_a_pointer_take_no_space() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let mut data = vec![0; 16 << 10];
    data[8 << 10..].fill(9);
    let file = {
        let tx = pool.tx();
        let file = pool.file(&tx, 8 << 10);
        file.write_slice(&tx, 0, &data).unwrap();
        file
    };
    let hole = write_ahead(&pool, &file, 0);
    assert!(hole.is_hole() && hole.lsize() == 8 << 10);
    assert!(write_ahead(&pool, &file, 8 << 10).is_embedded());
    let again = pool.reopen(pool.sync()).hold(file.id()).unwrap();
    assert!(again.read_vec(0, data.len()).unwrap() == data);
}

#[test]
fn a_failed_write_leaves_everything_to_the_group() {
    let pool = Pool::new(ObjsetKind::Zfs);
    let (file, data) = file_of(&pool);
    pool.disk.set_hook(Some(Arc::new(|op| {
        matches!(op, blockdev::Op::Write { .. }).then_some(blockdev::Error::Io)
    })));
    let Logged::Copy(copy) = file.copy_for_log(0).unwrap().1 else { panic!() };
    assert!(pool.objset.zil().unwrap().write_copies(vec![copy], &mut Vec::new()).is_err());
    pool.disk.set_hook(None);
    let (found, _) = on_disk(&pool, pool.sync(), &file);
    assert!(found == data);
}
