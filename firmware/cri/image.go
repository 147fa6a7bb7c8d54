package cri

import "github.com/skerry/skerry/firmware/grpcwire"

// ImageSpec names an image.
type ImageSpec struct {
	Image              string // reference or id
	Annotations        map[string]string
	UserSpecifiedImage string // as in the pod's spec
	RuntimeHandler     string
	ImageRef           string
}

func (m *ImageSpec) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Image)
	f.StrMap(2, &m.Annotations)
	f.Str(18, &m.UserSpecifiedImage)
	f.Str(19, &m.RuntimeHandler)
	f.Str(20, &m.ImageRef)
}

// Image is an image that the runtime holds. Size is in bytes.
type Image struct {
	ID          string
	RepoTags    []string
	RepoDigests []string
	Size        uint64
	UID         *int64 // user of the image's config, if numeric
	Username    string // user of the image's config, if a name
	Spec        *ImageSpec
	Pinned      bool // the runtime never removes it by itself, and nobody should
}

func (m *Image) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.ID)
	f.Strs(2, &m.RepoTags)
	f.Strs(3, &m.RepoDigests)
	grpcwire.Num(f, 4, &m.Size)
	grpcwire.Wrapped(f, 5, &m.UID)
	f.Str(6, &m.Username)
	grpcwire.Opt(f, 7, &m.Spec)
	f.Bool(8, &m.Pinned)
}

// ImageFilter selects images.
type ImageFilter struct{ Image *ImageSpec }

func (m *ImageFilter) Walk(f *grpcwire.Fields) { grpcwire.Opt(f, 1, &m.Image) }

// AuthConfig holds a registry's credentials.
type AuthConfig struct {
	Username      string
	Password      string
	Auth          string // base64 of user:password
	ServerAddress string
	IdentityToken string
	RegistryToken string
}

func (m *AuthConfig) Walk(f *grpcwire.Fields) {
	f.Str(1, &m.Username)
	f.Str(2, &m.Password)
	f.Str(3, &m.Auth)
	f.Str(4, &m.ServerAddress)
	f.Str(5, &m.IdentityToken)
	f.Str(6, &m.RegistryToken)
}

// FilesystemIdentifier names a file system.
type FilesystemIdentifier struct{ Mountpoint string }

func (m *FilesystemIdentifier) Walk(f *grpcwire.Fields) { f.Str(1, &m.Mountpoint) }

// FilesystemUsage is what images or a container use of a file system. Timestamp is in nanoseconds.
type FilesystemUsage struct {
	Timestamp  int64
	FsID       *FilesystemIdentifier
	UsedBytes  *uint64
	InodesUsed *uint64
}

func (m *FilesystemUsage) Walk(f *grpcwire.Fields) {
	grpcwire.Num(f, 1, &m.Timestamp)
	grpcwire.Opt(f, 2, &m.FsID)
	grpcwire.Wrapped(f, 3, &m.UsedBytes)
	grpcwire.Wrapped(f, 4, &m.InodesUsed)
}
