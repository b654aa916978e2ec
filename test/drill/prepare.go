package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// prepare makes what the drill needs on both hosts.
func (d *drill) prepare(ctx context.Context) error {
	images := make(map[string][]byte) // by platform
	for _, e := range d.engines() {
		system, machine, err := e.platform(ctx)
		if err != nil {
			return err
		}
		if err := d.checkVolume(ctx, e); err != nil {
			return err
		}
		platform := system + "/" + machine
		if images[platform] == nil {
			if images[platform], err = build(ctx, d.source, system, machine); err != nil {
				return err
			}
		}
		e.touched = true
		if _, err := e.docker(ctx, time.Minute, bytes.NewReader(images[platform]), "import", "--change", `ENTRYPOINT ["/beat"]`, "-", d.name()); err != nil {
			return err
		}
	}
	if !d.existing {
		args := []string{"volume", "create", "--driver", "dvol", "--opt", "access=" + d.access}
		if d.pool != "" {
			args = append(args, "--opt", "pool="+d.pool)
		}
		if _, err := d.from.docker(ctx, 2*time.Minute, nil, append(args, d.volume)...); err != nil {
			return err
		}
		d.made = true
	}
	for _, e := range d.engines() {
		out, err := e.docker(ctx, time.Minute, nil, "create", "--name", d.name(), "--network", "none",
			"--mount", "type=volume,source="+d.volume+",target=/data,volume-driver=dvol,volume-nocopy",
			d.name(), "-host", e.name, d.file(), interval.String())
		if err != nil {
			return err
		}
		e.container = strings.TrimSpace(out)
	}
	return nil
}

// checkVolume makes sure that a host has no volume of the name, or the one that is
// to be used.
func (d *drill) checkVolume(ctx context.Context, e *engine) error {
	driver, err := e.driver(ctx, d.volume)
	switch {
	case err != nil:
		return err
	case d.existing && driver != "dvol":
		return fmt.Errorf("volume %q of %s is of driver %q, not dvol", d.volume, e.name, driver)
	case !d.existing && driver != "":
		return fmt.Errorf("there is a volume %q on %s: choose another name, or --existing to add a file to that", d.volume, e.name)
	}
	return nil
}

// file is what the containers write to.
func (d *drill) file() string { return "/data/" + d.name() }

// read is what the volume has of the drill, as the second host sees it.
func (d *drill) read(ctx context.Context) (string, error) {
	archive, err := d.to.docker(ctx, 2*time.Minute, nil, "cp", d.to.container+":"+d.file(), "-")
	if err != nil {
		return "", err
	}
	t := tar.NewReader(strings.NewReader(archive))
	if _, err := t.Next(); err != nil {
		return "", fmt.Errorf("read %s: %w", d.file(), err)
	}
	text, err := io.ReadAll(t)
	return string(text), err
}

// clean removes what the drill has made, but for the volume unless that was asked
// for. What it can't remove it tells.
func (d *drill) clean(ctx context.Context) {
	if d.made && !d.remove {
		say("the volume %s stays: docker volume rm %s", d.volume, d.volume)
	}
	for _, e := range d.engines() {
		if !e.touched {
			continue
		}
		commands := [][]string{{"rm", "--force", d.name()}, {"image", "rm", d.name()}}
		if e == d.to && d.made && d.remove {
			commands = append(commands, []string{"volume", "rm", d.volume})
		}
		answers := true
		for _, args := range commands {
			if answers {
				_, err := e.docker(ctx, short, nil, args...)
				if err == nil || strings.Contains(strings.ToLower(err.Error()), "no such") {
					continue
				}
				say("not cleaned up: %v", err)
				answers = false
			}
			d.left = append(d.left, fmt.Sprintf("on %s: docker %s", e.name, strings.Join(args, " ")))
		}
	}
}
