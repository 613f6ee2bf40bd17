package android.os;

import java.util.concurrent.Executor;

public final class PowerManager {
    PowerManager() {}

    public native void addThermalStatusListener(Executor executor, OnThermalStatusChangedListener listener);

    public native void removeThermalStatusListener(OnThermalStatusChangedListener listener);

    public native int getCurrentThermalStatus();

    public native float getThermalHeadroom(int forecastSeconds);

    public native boolean isPowerSaveMode();

    public interface OnThermalStatusChangedListener {
        void onThermalStatusChanged(int status);
    }
}
