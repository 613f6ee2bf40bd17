package android.app;

public class NotificationManager {
    public static final int IMPORTANCE_LOW = 2;

    NotificationManager() {}

    public native void createNotificationChannel(NotificationChannel channel);
}
