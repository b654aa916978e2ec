package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/dvol/dvold/test/drill/report"
)

// engine is a host's Docker engine, as the docker command reaches it.
type engine struct {
	name, address string
	container     string // the ID of the drill's own
	touched       bool   // whether the drill may have made something there
}

// short is for calls that need no storage.
const short = 30 * time.Second

// argv is a docker command for the engine.
func (e *engine) argv(args ...string) []string {
	return append([]string{"docker", "-H", e.address}, args...)
}

// docker runs a docker command for at most so long, and returns what it prints.
func (e *engine) docker(ctx context.Context, limit time.Duration, in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	argv := e.argv(args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as in stream
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errOut
	err := cmd.Run()
	if ctx.Err() == context.DeadlineExceeded {
		err = fmt.Errorf("no answer within %v", limit)
	}
	if err != nil {
		return "", fmt.Errorf("docker %s on %s: %w: %s", args[0], e.name, err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// platform is what the host's programs are built for, as Go calls it.
func (e *engine) platform(ctx context.Context) (system, machine string, err error) {
	out, err := e.docker(ctx, short, nil, "version", "--format", "{{.Server.Os}} {{.Server.Arch}}")
	if err != nil {
		return "", "", err
	}
	system, machine, _ = strings.Cut(strings.TrimSpace(out), " ")
	return system, machine, nil
}

// driver is that of a volume; "" if the host knows none of the name.
func (e *engine) driver(ctx context.Context, volume string) (string, error) {
	out, err := e.docker(ctx, short, nil, "volume", "inspect", "--format", "{{.Driver}}", volume)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), "no such volume") {
		return "", nil
	}
	return strings.TrimSpace(out), err
}

// follow notes what the engine says of the drill's container and its volume, until
// ctx ends or the engine does.
func (e *engine) follow(ctx context.Context, n *notes) {
	argv := e.argv("events", "--filter", "type=volume", "--filter", "type=container", "--format", "{{json .}}")
	complain := func(line string) { n.event(e.name, "docker", "", line) }
	stream(ctx, argv, func(line string) {
		var ev struct {
			Type, Action string
			Actor        struct {
				ID         string
				Attributes map[string]string
			}
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			complain(line)
			return
		}
		if ev.Actor.ID != e.container && ev.Actor.Attributes["container"] != e.container {
			return
		}
		marks := map[string]report.Mark{
			"volume mount": report.Mounted, "volume unmount": report.LetGo, "container start": report.Started, "container die": report.Ended,
		}
		what := ev.Type + " " + ev.Action
		if mark, known := marks[what]; known {
			n.event(e.name, "docker", mark, what)
		}
	}, complain)
}

// logCommand follows dvold's log of the host, from now on; nil if it is not known how.
func (e *engine) logCommand(given string) []string {
	if given != "" {
		return []string{"sh", "-c", given}
	}
	u, err := url.Parse(e.address)
	if err != nil || u.Scheme != "ssh" {
		return nil
	}
	u.Path = "" // of the engine's socket
	return []string{"ssh", "-o", "BatchMode=yes", u.String(), "journalctl --follow --lines=0 --output=cat --unit=dvold --unit=dvold-guard"}
}
