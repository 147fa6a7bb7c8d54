package cri

// ImageSpec names an image.
type ImageSpec struct {
	Image              string // reference or id
	Annotations        map[string]string
	UserSpecifiedImage string // as in the pod's spec
	RuntimeHandler     string
	ImageRef           string
}

func (m *ImageSpec) walk(f *fields) {
	f.str(1, &m.Image)
	f.strMap(2, &m.Annotations)
	f.str(18, &m.UserSpecifiedImage)
	f.str(19, &m.RuntimeHandler)
	f.str(20, &m.ImageRef)
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

func (m *Image) walk(f *fields) {
	f.str(1, &m.ID)
	f.strs(2, &m.RepoTags)
	f.strs(3, &m.RepoDigests)
	num(f, 4, &m.Size)
	wrapped(f, 5, &m.UID)
	f.str(6, &m.Username)
	opt(f, 7, &m.Spec)
	f.boolean(8, &m.Pinned)
}

// ImageFilter selects images.
type ImageFilter struct{ Image *ImageSpec }

func (m *ImageFilter) walk(f *fields) { opt(f, 1, &m.Image) }

// AuthConfig holds a registry's credentials.
type AuthConfig struct {
	Username      string
	Password      string
	Auth          string // base64 of user:password
	ServerAddress string
	IdentityToken string
	RegistryToken string
}

func (m *AuthConfig) walk(f *fields) {
	f.str(1, &m.Username)
	f.str(2, &m.Password)
	f.str(3, &m.Auth)
	f.str(4, &m.ServerAddress)
	f.str(5, &m.IdentityToken)
	f.str(6, &m.RegistryToken)
}

// FilesystemIdentifier names a file system.
type FilesystemIdentifier struct{ Mountpoint string }

func (m *FilesystemIdentifier) walk(f *fields) { f.str(1, &m.Mountpoint) }

// FilesystemUsage is what images or a container use of a file system. Timestamp is in nanoseconds.
type FilesystemUsage struct {
	Timestamp  int64
	FsID       *FilesystemIdentifier
	UsedBytes  *uint64
	InodesUsed *uint64
}

func (m *FilesystemUsage) walk(f *fields) {
	num(f, 1, &m.Timestamp)
	opt(f, 2, &m.FsID)
	wrapped(f, 3, &m.UsedBytes)
	wrapped(f, 4, &m.InodesUsed)
}
