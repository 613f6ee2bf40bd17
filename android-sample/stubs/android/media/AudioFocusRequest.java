package android.media;

import android.os.Handler;

public class AudioFocusRequest {
    AudioFocusRequest() {}

    public static class Builder {
        public Builder(int focusGain) {}

        public native AudioFocusRequest build();

        public native Builder setAudioAttributes(AudioAttributes attributes);

        public native Builder setOnAudioFocusChangeListener(
                AudioManager.OnAudioFocusChangeListener listener, Handler handler);
    }
}
