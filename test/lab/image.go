package lab

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
)

// BusyBox is the image that Image makes.
const BusyBox = "lab/busybox"

// Image makes the image BusyBox, unless the engine has it. The image has the
// usual commands, beat if the cluster has that, and no volumes.
func (h *Host) Image(ctx context.Context) error {
	if err := h.engine(ctx, http.MethodGet, "images/"+BusyBox+"/json", nil, nil); err == nil {
		return nil
	}
	list, err := exec.CommandContext(ctx, busyBox, "--list").Output()
	if err != nil {
		return fmt.Errorf("make image %s: list commands: %w", BusyBox, err)
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(writeRoot(w, strings.Fields(string(list)), h.beat)) }()
	said := new(strings.Builder)
	err = h.call(ctx, http.MethodPost, "images/create?fromSrc=-&repo="+BusyBox, r, func(body io.Reader) error {
		_, err := io.Copy(said, body)
		return err
	})
	if err == nil && strings.Contains(said.String(), `"error"`) { // by then it has said 200
		err = errors.New(said.String())
	}
	if err != nil {
		return fmt.Errorf("make image %s: %w", BusyBox, err)
	}
	return nil
}

// writeRoot writes the root file system of an image with busybox as the given
// commands, and with the binary beat if one is given.
func writeRoot(w io.Writer, commands []string, beat string) error {
	program, err := os.ReadFile(busyBox)
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	file := func(name string, mode int64, content []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := t.Write(content)
		return err
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := file("bin/busybox", 0o755, program); err != nil {
		return err
	}
	for _, name := range commands {
		if name == "busybox" {
			continue
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}); err != nil {
			return err
		}
	}
	if beat != "" {
		program, err := os.ReadFile(beat)
		if err != nil {
			return err
		}
		if err := file("bin/beat", 0o755, program); err != nil {
			return err
		}
	}
	if err := file("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\n")); err != nil {
		return err
	}
	return t.Close()
}
