package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	heapReserve   = 8 << 20 // bytes that cuts may need
	threadReserve = 16      // threads that may wait in the kernel at once
)

// Harden makes this process one that runs when the machine is in distress: it
// is locked in memory and needs no disk, it runs before all that is not
// real-time, and is not killed for want of memory. What the machine refuses is
// logged. It is for a process that does nothing but [Run].
func Harden(log *slog.Logger) {
	runtime.GOMAXPROCS(min(runtime.NumCPU(), 8)) // never more: see realTime
	debug.SetGCPercent(25)
	reserve()
	const late = "it may be late when it is needed"
	if err := lockMemory(); err != nil {
		log.Error("the guard is not locked in memory: "+late, "err", err)
	}
	if err := realTime(); err != nil {
		log.Error("the guard has no real-time priority: "+late, "err", err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		log.Error("the guard may be killed for want of memory", "err", err)
	}
}

// reserve has the process take threads and memory that it keeps.
func reserve() {
	heap := make([]byte, heapReserve)
	for i := 0; i < len(heap); i += os.Getpagesize() {
		heap[i] = 1
	}
	var all, ended sync.WaitGroup
	all.Add(threadReserve)
	for range threadReserve {
		ended.Go(func() {
			runtime.LockOSThread() // with which each of them has a thread
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	ended.Wait()
	runtime.KeepAlive(heap)
}

// lockMemory keeps in memory what the process has there, its program, and what
// it will map. Of what it has mapped and not used yet, such as the tables of the
// Go runtime, which are large and almost empty, it keeps what will be used.
func lockMemory() error {
	if err := unix.Mlockall(unix.MCL_FUTURE); err != nil {
		return os.NewSyscallError("mlockall", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		// As in proc_pid_maps(5): 00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/dvold
		var begin, end uintptr
		var access string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &access); err != nil {
			return fmt.Errorf("read the memory map %q: %w", line, err)
		}
		if access == "---p" || strings.Contains(line, "[v") {
			continue // reserved only, or the kernel's
		}
		var flags uintptr = unix.MLOCK_ONFAULT
		if strings.Contains(line, "/") {
			flags = 0
		}
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, begin, end-begin, flags); errno != 0 {
			return os.NewSyscallError("mlock2", errno)
		}
	}
	return nil
}

// realTime gives all threads the lowest real-time priority. Threads to come
// have what the one that starts them has. They take turns (SCHED_RR, sched(7)):
// threads of the Go runtime wait for each other without giving up the processor,
// with SCHED_FIFO for ever where there are more of them than processors.
func realTime() error {
	for {
		changed, err := realTimeNow()
		if err != nil || !changed {
			return err
		}
	}
}

// realTimeNow tells whether it found threads to change.
func realTimeNow() (bool, error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false, err
	}
	changed := false
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return false, err
		}
		attr, err := unix.SchedGetAttr(tid, 0)
		if err == nil && attr.Policy != unix.SCHED_RR {
			changed = true
			err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("thread %d: %w", tid, err)
		}
	}
	return changed, nil
}
