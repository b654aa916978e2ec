//go:build !(ceph && cgo)

package cephfs

import (
	"errors"
	"log/slog"
)

// canFence says that this program was built with the libraries of Ceph.
const canFence = false

// Fencing returns an error, for it takes the libraries of Ceph.
func (p *Pool) Fencing(*slog.Logger) (*Pool, error) {
	return nil, errors.New("a fence of Ceph takes its libraries, without which this dvold was built")
}
