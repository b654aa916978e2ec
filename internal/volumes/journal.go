package volumes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// journalSchema is the newest form of the journal that this dvold understands.
const journalSchema = 1

var (
	metaBucket   = []byte("meta")
	mountsBucket = []byte("mounts")
)

// journal is what this host must remember over a restart of dvold: which mount
// IDs Docker was given for which volume. It is void after a reboot, and so it
// belongs where files live as long, in /run: where that is a tmpfs, a change
// costs no disk write. Changes are synced when put and remove return.
type journal struct {
	db *bbolt.DB
	id string // tells it from another that was made at its path
}

// openJournal opens the journal at path or makes an empty one.
func openJournal(path string) (*journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("make the directory for the journal: %w", err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("journal %s is in use by another dvold: stop that one, or give this one another run directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open journal %s: %w", path, err)
	}
	j := &journal{db: db}
	if err := db.Update(j.init); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
	}
	return j, nil
}

func (j *journal) init(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if j.id = string(meta.Get([]byte("id"))); j.id == "" {
		j.id = newOp() + newOp()
		if err := meta.Put([]byte("id"), []byte(j.id)); err != nil {
			return err
		}
	}
	if _, err := tx.CreateBucketIfNotExists(mountsBucket); err != nil {
		return err
	}
	if stored := meta.Get([]byte("schema")); stored != nil {
		schema, err := strconv.Atoi(string(stored))
		if err != nil || schema > journalSchema {
			return fmt.Errorf("written by a newer dvold (schema %s, this one knows %d): upgrade, or give this one another run directory", stored, journalSchema)
		}
		return nil
	}
	return meta.Put([]byte("schema"), []byte(strconv.Itoa(journalSchema)))
}

// boot returns the boot ID that the entries belong to, or "".
func (j *journal) boot() (boot string, err error) {
	err = j.db.View(func(tx *bbolt.Tx) error {
		boot = string(tx.Bucket(metaBucket).Get([]byte("boot_id")))
		return nil
	})
	return boot, err
}

// entries returns all entries.
func (j *journal) entries() (all []entry, err error) {
	err = j.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(mountsBucket).ForEach(func(name, value []byte) error {
			var e entry
			what := fmt.Sprintf("journal entry %q", name)
			if err := unmarshal(what, value, journalSchema, &e); err != nil {
				return err
			}
			if e.Name != string(name) || CheckName(e.Name) != nil || !isID(e.ID) {
				return fmt.Errorf("%s is damaged: it has the name %.60q and the ID %.60q", what, e.Name, e.ID)
			}
			all = append(all, e)
			return nil
		})
	})
	return all, err
}

// restart replaces all entries and the boot ID they belong to.
func (j *journal) restart(boot string, entries []entry) error {
	err := j.db.Update(func(tx *bbolt.Tx) error {
		for _, e := range entries {
			if err := putEntry(tx, e); err != nil {
				return err
			}
		}
		return tx.Bucket(metaBucket).Put([]byte("boot_id"), []byte(boot))
	})
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// put writes the entry of e.Name.
func (j *journal) put(e entry) error {
	if err := j.db.Update(func(tx *bbolt.Tx) error { return putEntry(tx, e) }); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func putEntry(tx *bbolt.Tx, e entry) error {
	e.Schema = journalSchema
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return tx.Bucket(mountsBucket).Put([]byte(e.Name), value)
}

// remove deletes the entry of that name.
func (j *journal) remove(name string) error {
	err := j.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(mountsBucket).Delete([]byte(name))
	})
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.db.Close() }
