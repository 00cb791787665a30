"""What is read as a recording: the one table of which refusals and the reference are made. Pure."""

# What people call it → the library's demuxers. Formats that name other files or addresses (playlists, concat, DASH,
# SDP, sequences of pictures) are not among them, and neither are any that nobody records speech in.
FORMATS: dict[str, tuple[str, ...]] = {
    "wav (RF64 and w64 too)": ("wav", "w64"),
    "mp3": ("mp3",),
    "m4a, mp4, mov, 3gp": ("mov",),
    "aac": ("aac", "loas"),
    "flac": ("flac",),
    "ogg, opus, speex": ("ogg",),
    "webm, mkv": ("matroska",),
    "wma, wmv": ("asf",),
    "avi": ("avi",),
    "ts, mpg, vob": ("mpegts", "mpeg"),
    "flv": ("flv",),
    "aiff": ("aiff",),
    "caf": ("caf",),
    "au": ("au",),
    "amr": ("amr",),
    "ac3, eac3": ("ac3", "eac3"),
    "dts": ("dts", "dtshd"),
    "truehd, mlp": ("truehd", "mlp"),
    "wavpack": ("wv",),
    "tta": ("tta",),
    "ape": ("ape",),
    "tak": ("tak",),
    "musepack": ("mpc", "mpc8"),
    "RealAudio": ("rm",),
    "voc": ("voc",),
    "dss": ("dss",),
    "qcp": ("qcp",),
    "mxf": ("mxf",),
    "nut": ("nut",),
}
DEMUXERS = tuple(demuxer for demuxers in FORMATS.values() for demuxer in demuxers)
KINDS = ", ".join(FORMATS)

CODECS = (
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_s64le"),
    *("pcm_s64be", "pcm_f16le", "pcm_f24le", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_u16le"),
    *("pcm_u16be", "pcm_u24le", "pcm_u24be", "pcm_u32le", "pcm_u32be", "pcm_s8_planar", "pcm_s16le_planar"),
    *("pcm_s16be_planar", "pcm_s24le_planar", "pcm_s32le_planar", "pcm_alaw", "pcm_mulaw", "pcm_bluray", "pcm_dvd"),
    *("s302m", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_ima_amv", "adpcm_swf", "adpcm_yamaha"),
    *("g722", "g723_1", "g726", "g726le", "g729", "gsm", "gsm_ms", "ilbc", "truespeech"),
    *("adpcm_ct", "adpcm_sbpro_2", "adpcm_sbpro_3", "adpcm_sbpro_4", "nellymoser", "speex", "qcelp", "evrc", "dss_sp"),
    *("mp3float", "mp3", "mp3adufloat", "mp3on4float", "mp2float", "mp2", "mp1float", "mp1"),
    *("aac", "aac_latm", "alac", "als", "flac", "vorbis", "opus", "ac3", "eac3", "dca", "truehd", "mlp"),
    *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "wmav1", "wmav2", "wmapro", "wmalossless"),
    *("wmavoice", "cook", "sipr", "ralf", "real_144", "real_288", "atrac3", "atrac3plus"),
    *("wavpack", "tta", "ape", "tak", "mpc7", "mpc8", "qdm2", "qdmc", "mace3", "mace6", "dvaudio"),
)
