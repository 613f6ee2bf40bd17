package android.media;

public class AudioTrack {
    public static final int MODE_STREAM = 1;
    public static final int PERFORMANCE_MODE_LOW_LATENCY = 1;
    public static final int STATE_INITIALIZED = 1;
    public static final int WRITE_BLOCKING = 0;

    AudioTrack() {}

    public static native int getMinBufferSize(int sampleRateInHz, int channelConfig, int audioFormat);

    public native int getBufferCapacityInFrames();

    public native int getPlaybackHeadPosition();

    public native AudioDeviceInfo getRoutedDevice();

    public native int getSampleRate();

    public native int getState();

    public native boolean getTimestamp(AudioTimestamp timestamp);

    public native int getUnderrunCount();

    public native void pause();

    public native void flush();

    public native void play();

    public native void release();

    public native int setBufferSizeInFrames(int bufferSizeInFrames);

    public native void stop();

    public native int write(float[] audioData, int offsetInFloats, int sizeInFloats, int writeMode);

    public static class Builder {
        public Builder() {}

        public native AudioTrack build();

        public native Builder setAudioAttributes(AudioAttributes attributes);

        public native Builder setAudioFormat(AudioFormat format);

        public native Builder setBufferSizeInBytes(int bufferSizeInBytes);

        public native Builder setPerformanceMode(int performanceMode);

        public native Builder setTransferMode(int mode);
    }
}
