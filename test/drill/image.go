package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// writer is the program that writes in the container. It is put into an image of its own, which needs no
// registry and nothing of the host but an engine, and it calls fsync, which not every shell's tools do for sure.
const writer = "github.com/dvol/dvold/test/lab/cmd/beat"

// build builds the writer for a host out of a checkout, and returns an image with
// nothing else.
func build(ctx context.Context, source, system, machine string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "drill")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "beat")
	cmd := exec.CommandContext(ctx, "go", "build", "-C", source, "-trimpath", "-buildvcs=false", "-o", binary, writer)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+machine)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the writer for %s/%s: %w: %s", system, machine, err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var image bytes.Buffer
	t := tar.NewWriter(&image)
	if err := t.WriteHeader(&tar.Header{Name: "beat", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := t.Write(program); err != nil {
		return nil, err
	}
	return image.Bytes(), t.Close()
}
