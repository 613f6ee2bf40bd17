package android.media;

import android.os.Handler;

public interface AudioRouting {
    void addOnRoutingChangedListener(OnRoutingChangedListener listener, Handler handler);

    AudioDeviceInfo getRoutedDevice();

    void removeOnRoutingChangedListener(OnRoutingChangedListener listener);

    interface OnRoutingChangedListener {
        void onRoutingChanged(AudioRouting router);
    }
}
