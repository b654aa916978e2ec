package volumes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// identity is what tells this host from another that was given its name. It
// outlives reboots.
type identity struct {
	Schema int    `json:"schema"`
	HostID string `json:"host_id"`
	// Machine is the machine that this identity was made on, if it has an ID.
	// With a disk that was copied to another one, the other is another host.
	Machine string `json:"machine,omitempty"`
}

// loadIdentity reads the identity at path, or makes one.
func loadIdentity(path string) (identity, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newIdentity(path)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read the host's identity: %w", err)
	}
	var id identity
	err = unmarshal("the host's identity "+path, text, recordSchema, &id)
	if err == nil && id.HostID == "" {
		err = fmt.Errorf("the host's identity %s is damaged: it has no ID", path)
	}
	if now := machineID(); err == nil && now != "" && id.Machine != "" && id.Machine != now {
		err = fmt.Errorf("the host's identity %s is of another machine (%s, and this is %s), of which this one seems to be a copy", path, id.Machine, now)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w; restore it, or remove it to make this a new host", err)
	}
	return id, err
}

// newIdentity writes an identity so that it is there whole or not at all.
func newIdentity(path string) (identity, error) {
	id := identity{Schema: recordSchema, HostID: newOp() + newOp(), Machine: machineID()}
	text, err := json.Marshal(id)
	if err != nil {
		return id, err
	}
	if err := writeFile(path, append(text, '\n')); err != nil {
		return id, fmt.Errorf("write the host's identity: %w", err)
	}
	return id, nil
}

// machineID is what tells this machine from others, machine-id(5), or "". It is
// hashed, for it is confidential.
func machineID() string {
	text, err := os.ReadFile("/etc/machine-id")
	if id := bytes.TrimSpace(text); err == nil && len(id) == 32 {
		sum := sha256.Sum256(append([]byte("dvol "), id...))
		return hex.EncodeToString(sum[:8])
	}
	return ""
}

func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
