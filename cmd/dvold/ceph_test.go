//go:build ceph && cgo

package main

import (
	"log/slog"
	"strings"
	"testing"
)

// A pool of images fences, so that its volumes are taken over by default.
func TestOpenPoolOfImages(t *testing.T) {
	cfg := loadText(t, "run_dir: DIR/run\npools: {images: {type: rbd, mapper: fuse, size: 10G, cluster: {monitors: ['127.0.0.1:1'], keyring: DIR/keyring}}}\n")
	pools, err := openPools(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil || len(pools) != 1 {
		t.Fatalf("got %v, %v", pools, err)
	}
	if p := pools[0]; p.Location != "127.0.0.1:1:rbd" || !p.Shared || !p.Alone || !p.OneWriter || p.Fencer == nil {
		t.Errorf("got %+v", p)
	}
	if err := closePools(pools); err != nil {
		t.Error(err)
	}
}

func TestOpenPoolOfBadImages(t *testing.T) {
	for keys, want := range map[string]string{
		"type: rbd": `pool "images": cluster.monitors: want`,
		"type: rbd, size: 10X, cluster: {monitors: [a]}":     `size "10X": want a number`,
		"type: rbd, size: 1M, cluster: {monitors: [a]}":      `pool "images": size: `,
		"type: rbd, mapper: nbd, cluster: {monitors: [a]}":   `pool "images": mapper: `,
		"type: rbd, filesystem: vfat, cluster: {conf: /a}":   `pool "images": filesystem: `,
		"type: rbd, object_size: 5M, cluster: {conf: /a}":    `pool "images": object_size: `,
		"type: rbd, pool: 'a b', cluster: {conf: /a}":        `pool "images": pool: `,
		"type: rbd, fencer: client.x, cluster: {conf: /a}":   `pool "images": fencer: user: `,
		"type: rbd, cluster: {conf: /a, key: AQBx==}":        `key`,
		"type: rbd, mount_timeout: 10m, cluster: {conf: /a}": `pool "images": mount_timeout: `,
	} {
		_, err := openPools(t.Context(), loadText(t, "pools: {images: {"+keys+"}}\n"), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", keys, err, want)
		}
	}
}
