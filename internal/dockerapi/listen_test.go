package dockerapi_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dvol/dvold/internal/dockerapi"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugins", "dvol.sock")
	first, err := dockerapi.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket has mode %v, %v; want 0660", info.Mode(), err)
	}
	if l, err := dockerapi.Listen(path); err == nil || !strings.Contains(err.Error(), "another daemon") {
		t.Errorf("second listener: %v, %v; want a refusal", l, err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close() // as kill -9 does
	second, err := dockerapi.Listen(path)
	if err != nil {
		t.Fatalf("socket that was left behind: %v", err)
	}
	second.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("socket after close: %v, want none", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dockerapi.Listen(path); err == nil {
		t.Error("a file was taken for a socket")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

// TestSocketActivation is systemd's protocol: sd_listen_fds(3).
func TestSocketActivation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dvol.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "DVOLD_TEST_ROLE=activated", "LISTEN_FDS=1")
	child.ExtraFiles = []*os.File{file}
	child.Stderr = t.Output()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	status, text, err := post(t.Context(), path, "Plugin.Activate", nil)
	if err != nil || status != http.StatusOK {
		t.Errorf("activate: %d %s %v", status, text, err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the daemon: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("systemd's socket was removed: %v", err)
	}
}

// playActivated serves one call on what it is handed, and drains.
func playActivated() int {
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	l, err := dockerapi.Listen("/nonexistent/dvol.sock")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := l.Accept()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	served := make(chan error, 1)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "{}") })}
	ended := make(chan struct{})
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			close(ended)
		}
	}
	go func() { served <- server.Serve(&oneConn{Listener: l, c: c, done: ended}) }()
	<-ended
	server.Shutdown(context.Background())
	<-served
	return 0
}

// oneConn is a listener with one connection.
type oneConn struct {
	net.Listener
	c    net.Conn
	done chan struct{}
}

func (o *oneConn) Accept() (net.Conn, error) {
	if c := o.c; c != nil {
		o.c = nil
		return c, nil
	}
	<-o.done
	return nil, net.ErrClosed
}
