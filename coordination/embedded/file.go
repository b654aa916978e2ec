package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// schema numbers the layout of the file: bucket meta has it under schemaKey,
// bucket records a version of 8 bytes and the value for each key, and the
// sequence of all versions, bucket hosts a JSON hostEntry for each name.
const schema = 1

// lockTimeout is how long to wait for a dvold that is just stopping.
const lockTimeout = time.Second

var (
	metaBucket    = []byte("dvold")
	recordsBucket = []byte("records")
	hostsBucket   = []byte("hosts")
	schemaKey     = []byte("schema")
)

// openFile opens and checks the file at path. The file is complete from the
// first moment it exists, so anything else under that name is not ours.
func openFile(path string) (*bbolt.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createFile(path); err != nil {
			return nil, err
		}
	}
	var file *os.File
	var db *bbolt.DB
	err := guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockTimeout,
			OpenFile: func(path string, flag int, mode fs.FileMode) (_ *os.File, err error) {
				file, err = openExisting(path, flag, mode)
				return file, err
			},
		})
		switch {
		case errors.Is(err, berrors.ErrTimeout):
			return errors.New("in use by another dvold")
		case err != nil && file != nil:
			return fmt.Errorf("not a coordination file, or a damaged one: %w", err)
		case err != nil:
			return err
		}
		return db.View(verify)
	})
	if err == nil {
		return db, nil
	}
	switch {
	case db != nil:
		_ = db.Close()
	case file != nil:
		// After a panic the mapping would hold the lock even of a closed file.
		_ = unix.Flock(int(file.Fd()), unix.LOCK_UN)
		_ = file.Close()
	}
	return nil, err
}

// openExisting keeps bbolt from making a file, or a database of an empty one.
func openExisting(path string, flag int, mode fs.FileMode) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return nil, fmt.Errorf("not a coordination file: %d bytes, mode %v", info.Size(), info.Mode())
	}
	return os.OpenFile(path, flag&^os.O_CREATE, mode)
}

// guard turns into errors what bbolt makes of damaged pages: panics, and
// faults where a page lies behind the end of the file.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("damaged: %v", r)
		}
	}()
	return fn()
}

// verify checks the schema and reads every page once.
func verify(tx *bbolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("damaged: has %d of %d bytes", info.Size(), tx.Size())
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return errors.New("not a coordination file, though a bbolt database")
	}
	found, err := strconv.ParseUint(string(meta.Get(schemaKey)), 10, 32)
	if err != nil {
		return fmt.Errorf("damaged: schema: %w", err)
	}
	if found > schema {
		return fmt.Errorf("its schema %d is newer than this dvold knows (%d): use a newer dvold", found, schema)
	}
	for _, name := range [][]byte{recordsBucket, hostsBucket} {
		bucket := tx.Bucket(name)
		if bucket == nil {
			return fmt.Errorf("damaged: bucket %s is missing", name)
		}
		if err := bucket.ForEach(func(_, v []byte) error {
			if len(v) < versionSize {
				return fmt.Errorf("damaged: bucket %s", name)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// createFile makes a file without records beside path and then gives it its
// name, unless another process was faster.
func createFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if err := f.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(f.Name(), 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(initialize), db.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for {
		if err := syncDir(dir); err != nil {
			return err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return nil
		}
		dir = parent
	}
}

func initialize(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, recordsBucket, hostsBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(schemaKey, strconv.AppendUint(nil, schema, 10))
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
