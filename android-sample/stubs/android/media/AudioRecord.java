package android.media;

import android.os.Handler;
import java.util.concurrent.Executor;

public class AudioRecord implements AudioRouting {
    public static final int ERROR_DEAD_OBJECT = -6;
    public static final int READ_BLOCKING = 0;
    public static final int RECORDSTATE_RECORDING = 3;
    public static final int STATE_INITIALIZED = 1;

    AudioRecord() {}

    public static native int getMinBufferSize(int sampleRateInHz, int channelConfig, int audioFormat);

    public native void addOnRoutingChangedListener(AudioRouting.OnRoutingChangedListener listener, Handler handler);

    public native AudioRecordingConfiguration getActiveRecordingConfiguration();

    public native int getAudioSource();

    public native int getBufferSizeInFrames();

    public native int getChannelCount();

    public native int getRecordingState();

    public native AudioDeviceInfo getRoutedDevice();

    public native int getSampleRate();

    public native int getState();

    public native int getTimestamp(AudioTimestamp outTimestamp, int timebase);

    public native int read(float[] audioData, int offsetInFloats, int sizeInFloats, int readMode);

    public native void registerAudioRecordingCallback(Executor executor, AudioManager.AudioRecordingCallback cb);

    public native void release();

    public native void removeOnRoutingChangedListener(AudioRouting.OnRoutingChangedListener listener);

    public native void startRecording();

    public native void stop();

    public native void unregisterAudioRecordingCallback(AudioManager.AudioRecordingCallback cb);

    public static class Builder {
        public Builder() {}

        public native AudioRecord build();

        public native Builder setAudioFormat(AudioFormat format);

        public native Builder setAudioSource(int source);

        public native Builder setBufferSizeInBytes(int bufferSizeInBytes);
    }
}
