package android.media;

import android.os.Handler;
import java.util.List;

public class AudioManager {
    public static final String ACTION_AUDIO_BECOMING_NOISY = "android.media.AUDIO_BECOMING_NOISY";
    public static final int AUDIOFOCUS_GAIN = 1;
    public static final int AUDIOFOCUS_REQUEST_GRANTED = 1;
    public static final int GET_DEVICES_INPUTS = 1;
    public static final int GET_DEVICES_OUTPUTS = 2;
    public static final String PROPERTY_OUTPUT_FRAMES_PER_BUFFER = "android.media.property.OUTPUT_FRAMES_PER_BUFFER";
    public static final String PROPERTY_OUTPUT_SAMPLE_RATE = "android.media.property.OUTPUT_SAMPLE_RATE";
    public static final String PROPERTY_SUPPORT_AUDIO_SOURCE_UNPROCESSED =
            "android.media.property.SUPPORT_AUDIO_SOURCE_UNPROCESSED";

    AudioManager() {}

    public native int abandonAudioFocusRequest(AudioFocusRequest focusRequest);

    public native AudioDeviceInfo[] getDevices(int flags);

    public native String getProperty(String key);

    public native void registerAudioDeviceCallback(AudioDeviceCallback callback, Handler handler);

    public native int requestAudioFocus(AudioFocusRequest focusRequest);

    public native void unregisterAudioDeviceCallback(AudioDeviceCallback callback);

    public interface OnAudioFocusChangeListener {
        void onAudioFocusChange(int focusChange);
    }

    public abstract static class AudioRecordingCallback {
        public AudioRecordingCallback() {}

        public void onRecordingConfigChanged(List<AudioRecordingConfiguration> configs) {}
    }
}
