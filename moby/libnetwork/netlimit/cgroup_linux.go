// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// progName is how our program is known among those of a cgroup.
const progName = "docker_netclass"

// Offsets of struct __sk_buff of linux/bpf.h.
const (
	skbPriority = 32
	skbIfindex  = 40
)

// SetCgroup makes class the priority of all packets that a cgroup v2 sends, and
// each of priorities that of the packets through one interface of the host. It
// is for containers in the host's network namespace; a program on the cgroup
// holds for all of its children, and as long as the cgroup, whatever becomes of
// dockerd. 0 and none remove it.
func SetCgroup(dir string, class uint32, priorities map[string]uint32) error {
	cg, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer cg.Close()
	old, err := attached(cg)
	if err != nil {
		return err
	}
	defer closeAll(old)

	if class != 0 || len(priorities) != 0 {
		prog, err := loadClassProgram(class, priorities)
		if err != nil {
			return err
		}
		defer prog.Close()
		err = link.RawAttachProgram(link.RawAttachProgramOptions{
			Target: int(cg.Fd()), Program: prog, Attach: ebpf.AttachCGroupInetEgress, Flags: unix.BPF_F_ALLOW_MULTI,
		})
		if err != nil {
			return fmt.Errorf("attaching the BPF program to %s: %w", dir, err)
		}
	}
	// Only now, so that no packet goes without.
	for _, p := range old {
		err := link.RawDetachProgram(link.RawDetachProgramOptions{
			Target: int(cg.Fd()), Program: p, Attach: ebpf.AttachCGroupInetEgress,
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("detaching the old BPF program from %s: %w", dir, err)
		}
	}
	return VerifyCgroup(dir, class, priorities)
}

// VerifyCgroup tells whether the cgroup has just the program that SetCgroup
// makes of class and priorities.
func VerifyCgroup(dir string, class uint32, priorities map[string]uint32) error {
	cg, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer cg.Close()
	progs, err := attached(cg)
	if err != nil {
		return err
	}
	defer closeAll(progs)
	if class == 0 && len(priorities) == 0 {
		if len(progs) != 0 {
			return fmt.Errorf("%s has a program %s, want none", dir, progName)
		}
		return nil
	}
	if len(progs) != 1 {
		return fmt.Errorf("%s has %d programs %s, want one", dir, len(progs), progName)
	}
	// The kernel's tag is a hash of the program, which one depends on its age.
	want, err := loadClassProgram(class, priorities)
	if err != nil {
		return err
	}
	defer want.Close()
	wantInfo, err := want.Info()
	if err != nil {
		return err
	}
	info, err := progs[0].Info()
	if err != nil {
		return err
	}
	if info.Tag != wantInfo.Tag {
		return fmt.Errorf("the program %s of %s is another one (%s, want %s)", progName, dir, info.Tag, wantInfo.Tag)
	}
	return nil
}

func loadClassProgram(class uint32, priorities map[string]uint32) (*ebpf.Program, error) {
	insns, err := classProgram(class, priorities)
	if err != nil {
		return nil, err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: progName, Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "Apache-2.0", Instructions: insns,
	})
	if err != nil {
		return nil, fmt.Errorf("loading the BPF program for the network class: %w", err)
	}
	return prog, nil
}

// attached returns the programs of ours that are attached to the cgroup itself.
func attached(cg *os.File) (progs []*ebpf.Program, err error) {
	res, err := link.QueryPrograms(link.QueryOptions{Target: int(cg.Fd()), Attach: ebpf.AttachCGroupInetEgress})
	if err != nil {
		return nil, fmt.Errorf("listing the BPF programs of %s: %w", cg.Name(), err)
	}
	for _, a := range res.Programs {
		p, err := ebpf.NewProgramFromID(a.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(progs)
			return nil, err
		}
		if info, err := p.Info(); err == nil && info.Name == progName {
			progs = append(progs, p)
		} else {
			p.Close()
		}
	}
	return progs, nil
}

func closeAll(progs []*ebpf.Program) {
	for _, p := range progs {
		p.Close()
	}
}

// classProgram lets every packet pass, with another priority. What the sender
// asked for with SO_PRIORITY does not count.
func classProgram(class uint32, priorities map[string]uint32) (asm.Instructions, error) {
	insns := asm.Instructions{asm.LoadMem(asm.R2, asm.R1, skbIfindex, asm.Word)}
	if class != 0 {
		insns = append(insns, store(class)...)
	}
	// In order, as the program is compared with another one.
	for _, name := range slices.Sorted(maps.Keys(priorities)) {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("interface %s: %w", name, err)
		}
		set := store(priorities[name])
		insns = append(insns, asm.Instruction{
			OpCode:   asm.OpCode(asm.JumpClass).SetJumpOp(asm.JNE).SetSource(asm.ImmSource),
			Dst:      asm.R2,
			Offset:   int16(len(set)),
			Constant: int64(iface.Index),
		})
		insns = append(insns, set...)
	}
	return append(insns, asm.Mov.Imm(asm.R0, 1), asm.Return()), nil
}

func store(priority uint32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm32(asm.R3, int32(priority)),
		asm.StoreMem(asm.R1, skbPriority, asm.R3, asm.Word),
	}
}
