package android.media;

public final class AudioRecordingConfiguration {
    AudioRecordingConfiguration() {}

    public native boolean isClientSilenced();
}
