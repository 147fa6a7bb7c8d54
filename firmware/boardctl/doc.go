// Package boardctl is `skerryctl board` on the gateway: which board this is taken for, what its file says, and whether the hardware
// agrees. It needs no running agent:
//
//	status, err := boardctl.Run(args, boardctl.Env{Stdout: os.Stdout, Root: "/", Dir: cfg.Board.Dir, Name: cfg.Board.Name})
//
// The status is 0 if all is well, 1 if the machine differs from its description, and 2 with an error: wrong usage, no such board, a file
// that cannot be read. A call uses nothing that others share. Tests give a folder with made-up /dev, /sys and /proc as Root.
package boardctl
