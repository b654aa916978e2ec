//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// features are those of new images, which all kernels that dvold runs on can map:
// deep-flatten came with 5.1, object-map with 5.3.
const features = rbd.FeatureLayering | rbd.FeatureExclusiveLock | rbd.FeatureObjectMap | rbd.FeatureFastDiff | rbd.FeatureDeepFlatten

// facts are what the cluster knows of an image.
type facts struct {
	id   string
	size int64
}

// look returns what the cluster knows of an image, or ErrNotFound.
func (p *Pool) look(ctx context.Context, i image) (facts, error) {
	return value(ctx, p, func(pool *rados.IOContext) (f facts, err error) {
		err = p.reading(pool, i, func(img *rbd.Image) error {
			id, err := img.GetId()
			if err != nil {
				return err
			}
			size, err := img.GetSize()
			f = facts{id: id, size: int64(size)}
			return err
		})
		return f, err
	})
}

// reading calls f with an image that is open for reading: others don't see that.
func (p *Pool) reading(pool *rados.IOContext, i image, f func(*rbd.Image) error) error {
	img, err := rbd.OpenImageReadOnly(pool, i.name, rbd.NoSnapshot)
	return p.using(i, img, err, f)
}

// writing calls f with an image that is open for writing, which makes this connection
// one of its watchers. It takes no lock.
func (p *Pool) writing(pool *rados.IOContext, i image, f func(*rbd.Image) error) error {
	img, err := rbd.OpenImage(pool, i.name, rbd.NoSnapshot)
	return p.using(i, img, err, f)
}

func (p *Pool) using(i image, img *rbd.Image, err error, f func(*rbd.Image) error) error {
	if isNotFound(err) {
		return fmt.Errorf("there is no image %s: %w", p.config.within(i.name), backends.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("open image %s: %w", p.config.within(i.name), err)
	}
	err = f(img)
	if closing := img.Close(); err == nil {
		err = closing
	}
	return err
}

// make makes an image, unless it is there.
func (p *Pool) make(ctx context.Context, i image, size int64) error {
	return p.with(ctx, func(pool *rados.IOContext) error {
		options := rbd.NewRbdImageOptions()
		defer options.Destroy()
		err := options.SetUint64(rbd.ImageOptionFeatures, features)
		if err == nil && p.config.ObjectSize != 0 {
			err = options.SetUint64(rbd.ImageOptionOrder, order(int64(p.config.ObjectSize)))
		}
		if err == nil && p.config.DataPool != "" {
			err = options.SetString(rbd.ImageOptionDataPool, p.config.DataPool)
		}
		if err != nil {
			return err
		}
		err = rbd.CreateImage(pool, i.name, uint64(size), options)
		switch number := ceph.Errno(err); {
		case number == unix.EEXIST:
			return nil
		case number == unix.ENOENT && p.config.DataPool != "":
			return fmt.Errorf("the cluster has no pool %q (data_pool): %w: %w", p.config.DataPool, err, backends.ErrUnavailable)
		}
		return err
	})
}

// order is the logarithm of a power of two.
func order(n int64) (o uint64) {
	for ; n > 1; n >>= 1 {
		o++
	}
	return o
}

// delete deletes an image. One that is gone is no error.
func (p *Pool) delete(ctx context.Context, i image) error {
	err := p.with(ctx, func(pool *rados.IOContext) error {
		err := rbd.RemoveImage(pool, i.name)
		if isNotFound(err) {
			return nil
		}
		return err
	})
	switch ceph.Errno(err) {
	case unix.EBUSY:
		who := "somebody"
		if others, looking := p.watchers(ctx, i); looking == nil && len(others) > 0 {
			who = "client " + join(others)
		}
		return fmt.Errorf("%s has image %s: %w", who, p.config.within(i.name), backends.ErrInUse)
	case unix.ENOTEMPTY:
		return fmt.Errorf("image %s has snapshots: remove them first (rbd snap ls): %w", p.config.within(i.name), backends.ErrInUse)
	}
	return err
}

// watchers are the clients that have an image, but for this process itself: who has
// mapped it to write, and who died less than half a minute ago. A client that is on the
// blocklist is none.
func (p *Pool) watchers(ctx context.Context, i image) ([]ceph.Address, error) {
	return ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (all []ceph.Address, err error) {
		own, err := conn.GetAddrs()
		if err != nil {
			return nil, err
		}
		err = p.within(conn, func(pool *rados.IOContext) error {
			return p.reading(pool, i, func(img *rbd.Image) error {
				found, err := img.ListWatchers()
				for _, w := range found {
					if a := ceph.Address(w.Addr); !hasAddress(own, w.Addr) && !slices.Contains(all, a) {
						all = append(all, a)
					}
				}
				return err
			})
		})
		return all, err
	})
}

// addressKind is what an address begins with in a list of them, as in
// "[v2:10.0.0.7:0/2816492101,v1:10.0.0.7:0/2816492101]".
var addressKind = regexp.MustCompile(`^\[?(v1|v2|any):`)

// hasAddress tells whether a is one of a client's own addresses, as librados lists them.
func hasAddress(own, a string) bool {
	for one := range strings.SplitSeq(own, ",") {
		if addressKind.ReplaceAllString(strings.TrimSuffix(one, "]"), "") == a {
			return true
		}
	}
	return false
}

// isBlank tells whether nothing was ever written to an image.
func (p *Pool) isBlank(ctx context.Context, i image) (bool, error) {
	return value(ctx, p, func(pool *rados.IOContext) (blank bool, err error) {
		err = p.reading(pool, i, func(img *rbd.Image) error {
			size, err := img.GetSize()
			if err != nil {
				return err
			}
			blank = true
			err = img.DiffIterate(rbd.DiffIterateConfig{
				Length: size, IncludeParent: rbd.IncludeParent, WholeObject: rbd.EnableWholeObject,
				Callback: func(_, _ uint64, exists int, _ interface{}) int {
					if exists == 0 {
						return 0
					}
					blank = false
					return -int(unix.ECANCELED)
				},
			})
			if !blank {
				return nil
			}
			return err
		})
		return blank && err == nil, err
	})
}

// join lists clients.
func join(all []ceph.Address) string {
	var texts []string
	for _, a := range all {
		texts = append(texts, string(a))
	}
	return strings.Join(texts, ", ")
}

var errFull = errors.New("it is full, or has reached its quota: see ceph df detail, and ceph osd pool get-quota")

// checkRoom returns ErrNoSpace if one of the pools is full: what is written then
// waits until it is not.
func (p *Pool) checkRoom(ctx context.Context) error {
	return p.cluster.Call(ctx, func(conn *rados.Conn) error {
		full, err := ceph.FullPools(conn)
		if err != nil {
			return err
		}
		for _, pool := range []string{p.config.Pool, p.config.DataPool} {
			if slices.Contains(full, pool) {
				return fmt.Errorf("pool %q of the cluster: %w: %w", pool, errFull, backends.ErrNoSpace)
			}
		}
		return nil
	})
}
